//! How much a text may hold. Counted, never timed: the same text passes or fails on every machine.

/// What a reader accepts. Values and text are counted after anchors are expanded, over all documents of one text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of input.
    pub bytes: usize,
    /// Documents.
    pub documents: usize,
    /// Lists and maps inside each other. Never set above [`Limits::MAX_DEPTH`]: readers of the value recurse.
    pub depth: usize,
    /// Values: scalars, keys, lists, maps.
    pub nodes: usize,
    /// Bytes of keys and scalars.
    pub text: usize,
}

impl Limits {
    /// The deepest that is ever read, so that recursion over a value fits a thread's stack.
    pub const MAX_DEPTH: usize = 256;

    pub(crate) fn depth(&self) -> usize {
        self.depth.min(Self::MAX_DEPTH)
    }
}

impl Default for Limits {
    /// For files of a repository: room for several times the largest known, bundles of CRDs of 12 MB.
    fn default() -> Self {
        Self { bytes: 64 << 20, documents: 20_000, depth: 128, nodes: 4_000_000, text: 128 << 20 }
    }
}
