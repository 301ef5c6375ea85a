//! Archives (`.tar.gz`) read in memory: what an OCI layer or the `Extract` strategy of a copy operation holds.
//!
//! Only what Flux's and Helm's tools write is read: files and folders with plain, pax or GNU names. Whatever could lead out
//! of the archive or grow beyond a limit is an error, and every limit is checked before memory is taken for it: the tar
//! crate reads long names and attributes without a bound, and is made for unpacking to disk.

use std::io::{self, Read};

use flate2::read::MultiGzDecoder;

use crate::flux::path;

/// A block of a tar file.
const BLOCK: usize = 512;
/// Longest name, and longest list of attributes, of one entry.
const ATTRIBUTES: u64 = 64 << 10;

/// Bounds of one archive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ArchiveLimits {
    /// Bytes of the archive when it is unpacked, padding included.
    pub total: u64,
    /// Bytes of one file.
    pub file: u64,
    /// Files and folders.
    pub entries: usize,
}

impl Default for ArchiveLimits {
    /// A raw bundle is at most 256 MiB and a file at most 16 MiB (`security.md` section 4).
    fn default() -> Self {
        Self { total: 256 << 20, file: 16 << 20, entries: 100_000 }
    }
}

/// What to do with links, which Flux's artifacts do not hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Links {
    /// Leave them out, as Flux does with an OCI layer.
    Skip,
    /// Refuse the archive, as Flux does elsewhere.
    Refuse,
}

/// Why an archive could not be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ArchiveError {
    /// Not gzip, or damaged.
    #[error("it is no gzip archive, or damaged: {0}")]
    Gzip(String),
    /// Not tar, or damaged.
    #[error("it is no tar archive, or damaged: {0}")]
    Tar(&'static str),
    /// It ends too early.
    #[error("it ends in the middle of a file")]
    Cut,
    /// Beyond a limit.
    #[error("it holds more than the limit of {limit} {what}")]
    TooLarge {
        /// `bytes`, `bytes in one file ("name")`, `files and folders`.
        what: String,
        /// The limit.
        limit: u64,
    },
    /// A name that leads out of it, or that is no name.
    #[error("it holds the name {name:?}, which is no path inside it")]
    Name {
        /// As written.
        name: String,
    },
    /// Something else than a file or folder.
    #[error("it holds {name:?}, which is {what}; only files and folders are read")]
    Kind {
        /// Its name.
        name: String,
        /// `a link`, `a device`.
        what: &'static str,
    },
}

/// One file of an archive. Folders are told by names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ArchiveFile {
    /// Its path, in plain form.
    pub path: String,
    /// Its bytes.
    pub bytes: Vec<u8>,
}

/// Unpacks a gzip-compressed tar archive. A path that stands twice is given twice: the later one counts.
///
/// # Errors
/// [`ArchiveError`].
pub fn unpack(bytes: &[u8], limits: &ArchiveLimits, links: Links) -> Result<Vec<ArchiveFile>, ArchiveError> {
    let mut reader = Reader { inner: MultiGzDecoder::new(bytes), left: limits.total, limits };
    let mut files = Vec::new();
    let mut entries = 0;
    let mut next = Overrides::default();
    while let Some(header) = reader.header()? {
        let kind = header.kind();
        let size = next.size.unwrap_or(header.size()?);
        match kind {
            b'x' | b'L' => {
                let bytes = reader.bytes(size, ATTRIBUTES, || "bytes in the attributes of one file".to_owned())?;
                if kind == b'x' {
                    next.read_pax(&bytes)?
                } else {
                    next.path = Some(text(until_nul(&bytes))?)
                }
                continue;
            }
            // Attributes for all, and long targets of links: nothing that is used.
            b'g' | b'K' => {
                reader.skip(size)?;
                continue;
            }
            _ => {}
        }
        let Overrides { path: longer, .. } = std::mem::take(&mut next);
        let written = match longer {
            Some(path) => path,
            None => header.path()?,
        };
        entries += 1;
        if entries > limits.entries {
            return Err(too_large("files and folders", limits.entries as u64));
        }
        match kind {
            b'0' | b'\0' | b'7' if !written.ends_with('/') => {
                let what = || format!("bytes in one file ({written:?})");
                let bytes = reader.bytes(size, limits.file, what)?;
                files.push(ArchiveFile { path: place(&written)?, bytes });
            }
            b'5' | b'0' | b'\0' => {
                place(&written)?;
                reader.skip(size)?;
            }
            b'2' if links == Links::Skip => reader.skip(size)?,
            b'1' | b'2' => return Err(ArchiveError::Kind { name: written, what: "a link" }),
            b'3' | b'4' => return Err(ArchiveError::Kind { name: written, what: "a device" }),
            b'6' => return Err(ArchiveError::Kind { name: written, what: "a pipe" }),
            _ => return Err(ArchiveError::Kind { name: written, what: "of an unknown kind" }),
        }
    }
    Ok(files)
}

fn too_large(what: impl Into<String>, limit: u64) -> ArchiveError {
    ArchiveError::TooLarge { what: what.into(), limit }
}

/// The plain form of a name. The root itself is one.
fn place(name: &str) -> Result<String, ArchiveError> {
    let bad = || ArchiveError::Name { name: name.to_owned() };
    let odd =
        name.is_empty() || name.starts_with('/') || name.contains(['\\', '\0']) || name.split('/').any(|p| p == "..");
    if odd { Err(bad()) } else { path::normal(name).ok_or_else(bad) }
}

fn text(bytes: &[u8]) -> Result<String, ArchiveError> {
    match std::str::from_utf8(bytes) {
        Ok(text) => Ok(text.to_owned()),
        Err(_) => Err(ArchiveError::Name { name: String::from_utf8_lossy(bytes).into_owned() }),
    }
}

fn until_nul(bytes: &[u8]) -> &[u8] {
    bytes.split(|b| *b == 0).next().unwrap_or_default()
}

/// What extension headers say of the entry after them.
#[derive(Default)]
struct Overrides {
    path: Option<String>,
    size: Option<u64>,
}

impl Overrides {
    /// Lines of `LENGTH KEY=VALUE\n`.
    fn read_pax(&mut self, mut bytes: &[u8]) -> Result<(), ArchiveError> {
        const BAD: ArchiveError = ArchiveError::Tar("its attributes cannot be read");
        while !bytes.is_empty() {
            let space = bytes.iter().position(|b| *b == b' ').ok_or(BAD)?;
            let length: usize =
                std::str::from_utf8(&bytes[..space]).ok().and_then(|digits| digits.parse().ok()).ok_or(BAD)?;
            let line = bytes.get(space + 1..length).and_then(|line| line.strip_suffix(b"\n")).ok_or(BAD)?;
            let equals = line.iter().position(|b| *b == b'=').ok_or(BAD)?;
            let (key, value) = (&line[..equals], &line[equals + 1..]);
            match key {
                b"path" => self.path = Some(text(value)?),
                b"size" => {
                    self.size = Some(std::str::from_utf8(value).ok().and_then(|v| v.parse().ok()).ok_or(BAD)?);
                }
                key if key.starts_with(b"GNU.sparse") => {
                    return Err(ArchiveError::Tar("it holds a file with holes, which is not read"));
                }
                _ => {}
            }
            bytes = &bytes[length..];
        }
        Ok(())
    }
}

struct Header([u8; BLOCK]);

impl Header {
    fn kind(&self) -> u8 {
        self.0[156]
    }

    fn path(&self) -> Result<String, ArchiveError> {
        let name = text(until_nul(&self.0[..100]))?;
        // `ustar\0`: POSIX, with the beginning of a long path of its own; GNU has other things there.
        let prefix = if &self.0[257..263] == b"ustar\0" { text(until_nul(&self.0[345..500]))? } else { String::new() };
        Ok(if prefix.is_empty() { name } else { format!("{prefix}/{name}") })
    }

    fn size(&self) -> Result<u64, ArchiveError> {
        let field = &self.0[124..136];
        if field[0] & 0x80 != 0 {
            // A large number in bytes. More than eight of them cannot be meant.
            let (high, low) = field.split_at(4);
            let small = high[0] == 0x80 && high[1..].iter().all(|b| *b == 0);
            let value = low.iter().fold(0_u64, |sum, b| (sum << 8) | u64::from(*b));
            return if small { Ok(value) } else { Err(ArchiveError::Tar("a size cannot be read")) };
        }
        octal(field).ok_or(ArchiveError::Tar("a size cannot be read"))
    }

    /// Whether the sum over the header is the one written in it.
    fn is_sound(&self) -> bool {
        let written = octal(&self.0[148..156]);
        let sum =
            self.0.iter().enumerate().map(|(at, b)| if (148..156).contains(&at) { 32 } else { u64::from(*b) }).sum();
        written == Some(sum)
    }
}

fn octal(field: &[u8]) -> Option<u64> {
    let digits: Vec<u8> =
        field.iter().copied().skip_while(|b| *b == b' ').take_while(|b| !matches!(b, 0 | b' ')).collect();
    if digits.is_empty() {
        return Some(0);
    }
    digits.iter().try_fold(0_u64, |sum, b| matches!(b, b'0'..=b'7').then(|| sum * 8 + u64::from(b - b'0')))
}

/// The unpacked archive, block by block, within its limit.
struct Reader<'a, R> {
    inner: R,
    left: u64,
    limits: &'a ArchiveLimits,
}

impl<R: Read> Reader<'_, R> {
    /// Fills `buf`; gives how many bytes there were.
    fn fill(&mut self, buf: &mut [u8]) -> Result<usize, ArchiveError> {
        let mut filled = 0;
        while filled < buf.len() {
            match self.inner.read(&mut buf[filled..]) {
                Ok(0) => break,
                Ok(n) => filled += n,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(ArchiveError::Gzip(e.to_string())),
            }
        }
        Ok(filled)
    }

    fn spend(&mut self, bytes: u64) -> Result<(), ArchiveError> {
        self.left = self.left.checked_sub(bytes).ok_or_else(|| too_large("bytes", self.limits.total))?;
        Ok(())
    }

    /// The next header. `None` at the end.
    fn header(&mut self) -> Result<Option<Header>, ArchiveError> {
        let mut block = [0; BLOCK];
        self.spend(BLOCK as u64)?;
        match self.fill(&mut block)? {
            0 => return Ok(None), // some writers leave out the blocks that end an archive
            BLOCK => {}
            _ => return Err(ArchiveError::Cut),
        }
        if block.iter().all(|b| *b == 0) {
            return Ok(None);
        }
        let header = Header(block);
        if header.is_sound() { Ok(Some(header)) } else { Err(ArchiveError::Tar("the sum of a header is wrong")) }
    }

    /// The content of an entry, with the padding after it gone.
    fn bytes(&mut self, size: u64, limit: u64, what: impl Fn() -> String) -> Result<Vec<u8>, ArchiveError> {
        if size > limit {
            return Err(too_large(what(), limit));
        }
        let padded = padded(size)?;
        self.spend(padded)?;
        // Within the limit, so it fits.
        let length = usize::try_from(size).map_err(|_| too_large(what(), limit))?;
        let mut bytes = vec![0; length];
        if self.fill(&mut bytes)? < length {
            return Err(ArchiveError::Cut);
        }
        self.pass(padded - size)?;
        Ok(bytes)
    }

    fn skip(&mut self, size: u64) -> Result<(), ArchiveError> {
        let padded = padded(size)?;
        self.spend(padded)?;
        self.pass(padded)
    }

    fn pass(&mut self, mut bytes: u64) -> Result<(), ArchiveError> {
        let mut block = [0; BLOCK];
        while bytes > 0 {
            let part = usize::try_from(bytes).unwrap_or(BLOCK).min(BLOCK);
            if self.fill(&mut block[..part])? < part {
                return Err(ArchiveError::Cut);
            }
            bytes -= part as u64;
        }
        Ok(())
    }
}

fn padded(size: u64) -> Result<u64, ArchiveError> {
    size.checked_next_multiple_of(BLOCK as u64).ok_or(ArchiveError::Tar("a size cannot be read"))
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    fn header(name: &str, kind: u8, size: usize) -> Vec<u8> {
        let mut block = vec![0; BLOCK];
        block[..name.len()].copy_from_slice(name.as_bytes());
        block[124..135].copy_from_slice(format!("{size:011o}").as_bytes());
        block[156] = kind;
        block[257..263].copy_from_slice(b"ustar\0");
        block[148..156].fill(b' ');
        let sum: u64 = block.iter().map(|b| u64::from(*b)).sum();
        block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        block
    }

    fn entry(name: &str, kind: u8, content: &[u8]) -> Vec<u8> {
        let mut out = header(name, kind, content.len());
        out.extend_from_slice(content);
        out.resize(out.len().next_multiple_of(BLOCK), 0);
        out
    }

    fn pax(lines: &[(&str, &str)]) -> Vec<u8> {
        let mut content = String::new();
        for (key, value) in lines {
            let rest = format!(" {key}={value}\n");
            let mut length = rest.len() + 1;
            while length != rest.len() + length.to_string().len() {
                length += 1;
            }
            content.push_str(&format!("{length}{rest}"));
        }
        entry("pax", b'x', content.as_bytes())
    }

    fn gzip(parts: &[Vec<u8>]) -> Vec<u8> {
        let mut out = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        for part in parts {
            out.write_all(part).unwrap();
        }
        out.write_all(&[0; 2 * BLOCK]).unwrap();
        out.finish().unwrap()
    }

    fn paths(parts: &[Vec<u8>], links: Links) -> Result<Vec<String>, ArchiveError> {
        let files = unpack(&gzip(parts), &ArchiveLimits::default(), links)?;
        Ok(files.into_iter().map(|f| format!("{}={}", f.path, String::from_utf8_lossy(&f.bytes))).collect())
    }

    #[test]
    fn names_in_all_their_forms_are_read() {
        let long = format!("{}/{}", "d".repeat(120), "f".repeat(100));
        let parts = [
            entry("./", b'5', b""),
            entry("./a.yaml", b'0', b"1"),
            entry("b/c.yaml", 0, &[b'2'; 600]),
            pax(&[("path", &long), ("mtime", "1")]),
            entry("short", b'0', b"3"),
            entry("././@LongLink", b'L', format!("{long}2\0").as_bytes()),
            entry("short", b'0', b"4"),
            entry("pax_global_header", b'g', b"17 comment=abcdef\n"),
        ];
        let got = paths(&parts, Links::Refuse).unwrap();
        assert_eq!(
            got,
            ["a.yaml=1".to_owned(), format!("b/c.yaml={}", "2".repeat(600)), format!("{long}=3"), format!("{long}2=4")]
        );
    }

    #[test]
    fn what_leads_out_is_refused() {
        for name in ["/etc/passwd", "../x", "a/../../x", "a/..", "..", "a\\b", ""] {
            let got = paths(&[entry(name, b'0', b"1")], Links::Skip);
            assert!(matches!(got, Err(ArchiveError::Name { .. })), "{name:?}: {got:?}");
        }
        for kind in *b"123467Z" {
            let got = paths(&[entry("x", kind, b"")], Links::Refuse);
            let expected = kind == b'7'; // a contiguous file is a file
            assert_eq!(got.is_ok(), expected, "{}: {got:?}", char::from(kind));
        }
        assert_eq!(paths(&[entry("x", b'2', b"")], Links::Skip).unwrap(), Vec::<String>::new());
        assert!(paths(&[entry("x", b'1', b"")], Links::Skip).is_err(), "a hard link has no content of its own");
    }

    #[test]
    fn limits_hold_before_memory_is_taken() {
        let limits = ArchiveLimits { total: 8192, file: 1000, entries: 3 };
        let of = |parts: &[Vec<u8>]| unpack(&gzip(parts), &limits, Links::Refuse).map(|f| f.len());
        let small = |name: &str| entry(name, b'0', b"1");
        assert_eq!(of(&[small("a"), small("b"), small("c")]), Ok(3));
        assert_eq!(of(&[small("a"), small("b"), small("c"), small("d")]), Err(too_large("files and folders", 3)));
        assert_eq!(of(&[entry("a", b'0', &[0; 1000])]), Ok(1));
        let big = of(&[entry("a", b'0', &[0; 1001])]);
        assert_eq!(big, Err(too_large("bytes in one file (\"a\")", 1000)));
        // A claim alone must not take memory.
        assert!(matches!(of(&[header("a", b'0', 0o777_7777_7777)]), Err(ArchiveError::TooLarge { .. })));
        assert!(matches!(of(&[header("a", b'L', 0o777_7777_7777)]), Err(ArchiveError::TooLarge { .. })));
        // A bomb: a megabyte of zeros in a folder entry.
        assert_eq!(of(&[entry("a", b'5', &vec![0; 1 << 20])]), Err(too_large("bytes", 8192)));
    }

    #[test]
    fn what_is_damaged_is_said() {
        let read = |bytes: &[u8]| unpack(bytes, &ArchiveLimits::default(), Links::Refuse).unwrap_err().to_string();
        assert!(read(b"hello").contains("gzip"));
        let whole = gzip(&[entry("a", b'0', &[7; 5000])]);
        assert!(read(&whole[..whole.len() / 2]).contains("gzip"));
        assert!(read(&gzip(&[header("a", b'0', 9_999)])).contains("middle"));
        let mut wrong = entry("a", b'0', b"1");
        wrong[0] = b'b';
        assert!(read(&gzip(&[wrong])).contains("sum"));
        assert!(read(&gzip(&[entry("x", b'x', b"nonsense")])).contains("attributes"));
        assert!(read(&gzip(&[entry("x", b'x', b"99 path=a\n")])).contains("attributes"));
        assert!(read(&gzip(&[entry("x", b'x', b"0 path=a\n")])).contains("attributes"));
    }
}
