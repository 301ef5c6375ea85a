//! Kustomize 5.8.1, as a pure function from a tree of files to objects.
//!
//! [`build`] answers what `kustomize build --reorder=none --load-restrictor=LoadRestrictionsNone DIR` answers.
//! The stages run in this order in each folder: resources, configurations, generators, components, transformers,
//! validators; and once at the root: name suffixes by content, name references, variables, order.

mod accumulate;
mod base;
mod config;
mod crds;
mod decode;
mod defaults;
mod error;
mod fieldpath;
mod fieldspec;
mod file;
mod generate;
mod hash;
mod images;
mod json;
mod json_patch;
mod labels;
mod load;
mod memo;
mod merge;
mod merge_list;
mod names;
mod order;
mod patch;
mod plugin;
mod provenance;
mod referrers;
mod refs;
mod replace;
mod replicas;
mod res;
mod root;
mod scope;
mod secrets;
mod selector;
pub(crate) mod smp_schema;
mod structured;
mod vars;

pub(crate) use file::NAMES as FILE_NAMES;
pub(crate) use selector::Matcher;

pub use error::{BuildError, ErrorKind, Origin, Warning};
pub use memo::Memo;

use crate::tree::Tree;
use driftless_yaml::Node;

/// One object of a finished build.
#[derive(Clone, Debug)]
pub struct Resource {
    /// The object.
    pub node: Node,
    /// Where its author wrote it: file and first line of its document; for a generated object the kustomization file and
    /// the line of the generator.
    pub origin: Origin,
    /// For a generated ConfigMap or Secret whose name ends in a hash of its content: the name without `-<hash>`.
    pub hashed_base_name: Option<String>,
}

/// A finished build.
#[derive(Clone, Debug, Default)]
pub struct Built {
    /// The objects in output order.
    pub resources: Vec<Resource>,
    /// What the author should know.
    pub warnings: Vec<Warning>,
}

/// The order of the output, unless the root file says otherwise with `sortOptions`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Order {
    /// As accumulated: what Flux does, and `--reorder=none`.
    #[default]
    None,
    /// The order of the command-line program without options: by kind, then by name.
    Legacy,
}

/// Limits of one build. The defaults are those of `security.md` section 4.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Length of one YAML file in bytes.
    pub file_bytes: u64,
    /// How deep bases may nest.
    pub base_depth: usize,
    /// How many objects a build may hold.
    pub objects: usize,
    /// How many bytes a build may read in all, counting a file as often as it is used.
    pub read_bytes: u64,
    /// How many bytes of new text the transformers of a build may make: a long label on many objects, a prefix on each.
    pub made_bytes: u64,
    /// How many bytes of text the finished objects may hold, counting what they share as often as it is printed.
    pub output_bytes: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            file_bytes: 16 << 20,
            base_depth: 20,
            objects: 50_000,
            read_bytes: 512 << 20,
            made_bytes: 512 << 20,
            output_bytes: 256 << 20,
        }
    }
}

/// How to build.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Output order.
    pub order: Order,
    /// Limits.
    pub limits: Limits,
    /// What a Flux Kustomization adds to the file at the top.
    pub overlay: Overlay,
    /// Files parsed before, by builds that were given the same memo.
    pub memo: Memo,
}

/// What a Flux Kustomization adds to the kustomization file at the top, by the merge rules of kustomize-controller:
/// `namespace`, `name_prefix` and `name_suffix` replace the file's, patches and components are appended, images are
/// merged by name (tag and digest as one), `build_metadata` replaces.
#[derive(Clone, Debug, Default)]
pub struct Overlay {
    /// `spec.targetNamespace`.
    pub target_namespace: Option<String>,
    /// `spec.namePrefix`.
    pub name_prefix: Option<String>,
    /// `spec.nameSuffix`.
    pub name_suffix: Option<String>,
    /// `spec.patches` (and the older `patchesStrategicMerge` and `patchesJson6902`, converted by the caller).
    pub patches: Vec<Patch>,
    /// `spec.components`: local paths relative to the folder built.
    pub components: Vec<String>,
    /// `spec.ignoreMissingComponents`.
    pub ignore_missing_components: bool,
    /// `spec.images`.
    pub images: Vec<Image>,
    /// `spec.buildMetadata`; `None` leaves the file's.
    pub build_metadata: Option<Vec<String>>,
    /// Labels for every object, with selectors left alone (for callers that want them inside the build).
    pub common_labels: Vec<(String, String)>,
    /// Annotations for every object and template.
    pub common_annotations: Vec<(String, String)>,
    /// Where these settings were written: the place named in messages about them. Setting it makes the build Flux's: the
    /// file at the top is read as kustomize-controller reads it (unknown fields dropped with a warning, numbers taken for
    /// text, an empty file allowed, origin annotations where it lists no resources).
    pub place: Origin,
}

/// One patch: a text or a file, and which objects it is for.
#[derive(Clone, Debug, Default)]
pub struct Patch {
    /// A file, relative to the folder of the kustomization file.
    pub path: Option<String>,
    /// The text itself: a strategic merge or a list of JSON patch operations.
    pub patch: Option<String>,
    /// Which objects; `None` lets the patch name its object itself.
    pub target: Option<Selector>,
    /// Whether the patch may change the object's name.
    pub allow_name_change: bool,
    /// Whether the patch may change the object's kind.
    pub allow_kind_change: bool,
    /// Where the patch was written.
    pub place: Origin,
}

/// Which objects a patch is for. Empty text matches everything; the first five are anchored regular expressions.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Selector {
    /// API group.
    pub group: String,
    /// API version.
    pub version: String,
    /// Kind.
    pub kind: String,
    /// Name, tried against the original and the current one.
    pub name: String,
    /// Namespace, tried against the original and the current one.
    pub namespace: String,
    /// Kubernetes label selector.
    pub label_selector: String,
    /// The same syntax over annotations.
    pub annotation_selector: String,
}

/// One entry of `images`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Image {
    /// Which images: the name without tag, a regular expression (so that `.` matches any character).
    pub name: String,
    /// The new name; empty keeps it.
    pub new_name: String,
    /// Appended to the tag; the digest is dropped.
    pub tag_suffix: String,
    /// The new tag; empty keeps it.
    pub new_tag: String,
    /// The new digest, `sha256:...`; empty keeps it.
    pub digest: String,
}

/// Builds the folder `dir` of `tree`, which must hold a kustomization file.
///
/// # Errors
/// The first thing that the real program would stop at, with its file and line; and what rendering refuses by design:
/// remote bases, programs and containers, Helm inflation, paths out of the tree, limits.
pub fn build(tree: &dyn Tree, dir: &str, options: &Options) -> Result<Built, BuildError> {
    root::build(tree, dir, None, options)
}

/// A kustomization file as Flux would generate it: nothing but resources.
#[derive(Clone, Debug, Default)]
pub struct KustomizationFile {
    /// Paths relative to the folder, in Flux's order.
    pub resources: Vec<String>,
}

/// What Flux does for a folder without a kustomization file: every `.yaml` and `.yml` below it, but a sub-folder with a
/// kustomization file of its own is one resource and not entered. `ignore` is asked with the path from the root and
/// whether it is a folder.
///
/// # Errors
/// A file that does not parse as Kubernetes objects.
pub fn generate(
    tree: &dyn Tree,
    dir: &str,
    ignore: &dyn Fn(&str, bool) -> bool,
    options: &Options,
) -> Result<KustomizationFile, BuildError> {
    root::generate(tree, dir, ignore, options)
}

/// [`build`], with `file` standing where the kustomization file of `dir` would.
///
/// # Errors
/// As [`build`].
pub fn build_generated(
    tree: &dyn Tree,
    dir: &str,
    file: &KustomizationFile,
    options: &Options,
) -> Result<Built, BuildError> {
    root::build(tree, dir, Some(file), options)
}
