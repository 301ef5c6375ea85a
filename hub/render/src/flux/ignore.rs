//! Files of a source that no build sees: Flux's default exclusions, `.sourceignore` at any depth, `spec.ignore`.
//!
//! The rules are those of Flux's source-controller: patterns as in `.gitignore`, the last that matches decides, and a file
//! below an excluded folder may be taken in again. As soon as a repository has patterns of its own, only Git's own files
//! of the default exclusions stay excluded.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use super::path;
use crate::tree::{Entry, Tree, TreeError};

/// Git's own files: always excluded.
const GIT: &[&str] = &[".git/", ".gitignore", ".gitmodules", ".gitattributes"];

/// Excluded unless the repository has patterns of its own.
const DEFAULT: &[&str] = &[
    "*.jpg",
    "*.jpeg",
    "*.gif",
    "*.png",
    "*.wmv",
    "*.flv",
    "*.tar.gz",
    "*.zip",
    ".github/",
    ".circleci/",
    ".travis.yml",
    ".gitlab-ci.yml",
    "appveyor.yml",
    ".drone.yml",
    "cloudbuild.yaml",
    "codeship-services.yml",
    "codeship-steps.yml",
    "**/.goreleaser.yml",
    "**/.sops.yaml",
    "**/.flux.yaml",
];

/// The file with patterns.
const FILE: &str = ".sourceignore";

/// One pattern, with the folder it was written in.
#[derive(Clone, Debug)]
struct Pattern {
    folder: String,
    parts: Vec<String>,
    /// Takes in again what an earlier pattern excluded.
    includes: bool,
    only_folders: bool,
    /// Has a slash that is not its last character: matched from the folder down, not against any single name.
    from_folder: bool,
}

/// A tree without what its source excludes.
pub(crate) struct Visible {
    inner: Arc<dyn Tree>,
    /// `spec.ignore`.
    spec: Vec<Pattern>,
    /// Patterns of `.sourceignore` that count in a folder, from the top down.
    folders: Mutex<BTreeMap<String, Arc<Vec<Pattern>>>>,
    git: Vec<Pattern>,
    default: Vec<Pattern>,
}

impl Visible {
    pub(crate) fn new(inner: Arc<dyn Tree>, spec: Option<&str>) -> Self {
        let fixed = |list: &[&str]| list.iter().filter_map(|line| Pattern::read(line, "")).collect();
        Self {
            inner,
            spec: spec.map(|text| read_all(text, "")).unwrap_or_default(),
            folders: Mutex::default(),
            git: fixed(GIT),
            default: fixed(DEFAULT),
        }
    }

    /// The patterns written in a folder and above it.
    fn patterns(&self, folder: &str) -> Result<Arc<Vec<Pattern>>, TreeError> {
        let known = |folder: &str| self.folders.lock().unwrap_or_else(PoisonError::into_inner).get(folder).cloned();
        if let Some(patterns) = known(folder) {
            return Ok(patterns);
        }
        // From the top down: `""`, `a`, `a/b`, ...
        let ends = folder.match_indices('/').map(|(at, _)| at).chain((!folder.is_empty()).then_some(folder.len()));
        let mut above = Arc::new(Vec::new());
        for end in std::iter::once(0).chain(ends) {
            let here = &folder[..end];
            above = match known(here) {
                Some(patterns) => patterns,
                None => self.read_patterns(here, above)?,
            };
        }
        Ok(above)
    }

    fn read_patterns(&self, folder: &str, above: Arc<Vec<Pattern>>) -> Result<Arc<Vec<Pattern>>, TreeError> {
        let file = path::join(folder, FILE);
        let mut patterns = above;
        if matches!(self.inner.entry(&file)?, Some(Entry::File { .. }))
            && let Some(bytes) = self.inner.read(&file)?
        {
            Arc::make_mut(&mut patterns).extend(read_all(&String::from_utf8_lossy(&bytes), folder));
        }
        self.folders.lock().unwrap_or_else(PoisonError::into_inner).insert(folder.to_owned(), patterns.clone());
        Ok(patterns)
    }

    /// Whether a path is hidden. A folder is hidden only when nothing below it can be taken in again.
    fn hidden(&self, at: &str, is_folder: bool) -> Result<bool, TreeError> {
        let folder = at.rsplit_once('/').map_or("", |(folder, _)| folder);
        let files = self.patterns(folder)?;
        let own = !files.is_empty() || !self.spec.is_empty();
        let default: &[Pattern] = if own { &[] } else { &self.default };
        let mut includes = false;
        for pattern in self.spec.iter().rev().chain(files.iter().rev()).chain(default.iter().rev()).chain(&self.git) {
            includes |= pattern.includes;
            if pattern.matches(at, is_folder) {
                return Ok(!(pattern.includes || is_folder && includes));
            }
        }
        Ok(false)
    }
}

fn read_all(text: &str, folder: &str) -> Vec<Pattern> {
    text.lines().filter_map(|line| Pattern::read(line, folder)).collect()
}

impl Pattern {
    fn read(line: &str, folder: &str) -> Option<Self> {
        let line = line.trim_end_matches('\r');
        if line.trim().is_empty() || line.starts_with('#') {
            return None;
        }
        let line = line.trim_end();
        let (includes, line) = line.strip_prefix('!').map_or((false, line), |rest| (true, rest));
        let (only_folders, line) = line.strip_suffix('/').map_or((false, line), |rest| (true, rest));
        let from_folder = line.contains('/');
        let parts = line.split('/').map(str::to_owned).collect();
        Some(Self { folder: folder.to_owned(), parts, includes, only_folders, from_folder })
    }

    fn matches(&self, at: &str, is_folder: bool) -> bool {
        let at = if self.folder.is_empty() {
            at
        } else {
            match at.strip_prefix(&self.folder).and_then(|rest| rest.strip_prefix('/')) {
                Some(rest) => rest,
                None => return false,
            }
        };
        let names: Vec<&str> = at.split('/').collect();
        if self.from_folder { self.matches_path(&names, is_folder) } else { self.matches_name(&names, is_folder) }
    }

    /// A pattern without slash matches any name on the way, a folder's with all that is below it.
    fn matches_name(&self, names: &[&str], is_folder: bool) -> bool {
        let Some(pattern) = self.parts.first() else { return false };
        names
            .iter()
            .enumerate()
            .any(|(at, name)| glob(pattern, name) && !(self.only_folders && !is_folder && at + 1 == names.len()))
    }

    fn matches_path(&self, names: &[&str], is_folder: bool) -> bool {
        let mut rest = names;
        let mut matched = false;
        let mut anywhere = false;
        for (at, part) in self.parts.iter().enumerate() {
            let last = at + 1 == self.parts.len();
            match part.as_str() {
                "" => anywhere = false,
                "**" if last => break,
                "**" => anywhere = true,
                part if part.contains("**") => return false,
                part if anywhere => {
                    anywhere = false;
                    match rest.iter().position(|name| glob(part, name)) {
                        Some(found) => {
                            rest = &rest[found + 1..];
                            matched = true;
                        }
                        None => {
                            rest = &[];
                            matched = false;
                        }
                    }
                }
                part => {
                    let Some((name, below)) = rest.split_first() else { return false };
                    if !glob(part, name) {
                        return false;
                    }
                    rest = below;
                    // A file where the pattern goes on into a folder does not match.
                    matched = last || !rest.is_empty();
                }
            }
        }
        matched && !(self.only_folders && !is_folder && rest.is_empty())
    }
}

/// A name against `*`, `?`, `[a-z]`, `[^a]` and `\` before a character taken as it is.
fn glob(pattern: &str, name: &str) -> bool {
    let (pattern, name): (Vec<char>, Vec<char>) = (pattern.chars().collect(), name.chars().collect());
    let (mut p, mut n) = (0, 0);
    // Where to go on after the last `*`: names are short, so going back costs at most their length squared.
    let mut back: Option<(usize, usize)> = None;
    while n < name.len() {
        let step = match pattern.get(p) {
            Some('*') => {
                back = Some((p + 1, n));
                p += 1;
                continue;
            }
            Some('?') => Some(1),
            Some('[') => class(&pattern[p..], name[n]),
            Some('\\') => (pattern.get(p + 1) == Some(&name[n])).then_some(2),
            Some(c) => (*c == name[n]).then_some(1),
            None => None,
        };
        match (step, back) {
            (Some(length), _) => {
                p += length;
                n += 1;
            }
            (None, Some((after, from))) => {
                p = after;
                n = from + 1;
                back = Some((after, from + 1));
            }
            (None, None) => return false,
        }
    }
    pattern[p..].iter().all(|c| *c == '*')
}

/// Matches `[...]` at the start of a pattern; gives its length when the character is in it.
fn class(pattern: &[char], c: char) -> Option<usize> {
    let mut at = 1;
    let negated = matches!(pattern.get(at), Some('^' | '!'));
    at += usize::from(negated);
    let mut found = false;
    let mut first = true;
    loop {
        let low = *pattern.get(at)?;
        if low == ']' && !first {
            break;
        }
        first = false;
        let high = match (pattern.get(at + 1), pattern.get(at + 2)) {
            (Some('-'), Some(high)) if *high != ']' => {
                at += 2;
                *high
            }
            _ => low,
        };
        found |= (low..=high).contains(&c);
        at += 1;
    }
    (found != negated).then_some(at + 1)
}

impl Tree for Visible {
    fn entry(&self, at: &str) -> Result<Option<Entry>, TreeError> {
        let entry = self.inner.entry(at)?;
        match &entry {
            Some(found) if !at.is_empty() && self.hidden(at, matches!(found, Entry::Folder { .. }))? => Ok(None),
            _ => Ok(entry),
        }
    }

    fn list(&self, at: &str) -> Result<Option<Vec<(String, Entry)>>, TreeError> {
        let Some(entries) = self.inner.list(at)? else { return Ok(None) };
        let mut out = Vec::with_capacity(entries.len());
        for (name, entry) in entries {
            if !self.hidden(&path::join(at, &name), matches!(entry, Entry::Folder { .. }))? {
                out.push((name, entry));
            }
        }
        Ok(Some(out))
    }

    fn read(&self, at: &str) -> Result<Option<Arc<[u8]>>, TreeError> {
        if self.hidden(at, false)? { Ok(None) } else { self.inner.read(at) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tree::MemTree;

    fn visible(files: &[(&str, &str)], spec: Option<&str>) -> Vec<String> {
        let mut tree = MemTree::new();
        for (path, text) in files {
            tree.insert(*path, text.as_bytes().to_vec());
        }
        let tree = Visible::new(Arc::new(tree), spec);
        files
            .iter()
            .map(|(path, _)| *path)
            .filter(|path| !path.ends_with(FILE) && tree.read(path).unwrap().is_some())
            .map(str::to_owned)
            .collect()
    }

    #[test]
    fn the_default_exclusions_hold_until_there_are_patterns() {
        let files = [
            ("a.png", ""),
            ("x/b.zip", ""),
            (".github/c.yaml", ""),
            ("x/.sops.yaml", ""),
            (".gitignore", ""),
            ("d.yaml", ""),
        ];
        assert_eq!(visible(&files, None), ["d.yaml"]);
        assert_eq!(visible(&files, Some("*.md")), ["a.png", "x/b.zip", ".github/c.yaml", "x/.sops.yaml", "d.yaml"]);
    }

    #[test]
    fn the_last_pattern_that_matches_decides() {
        let files = [("manifests/install/a.yaml", ""), ("other/b.yaml", ""), ("c.yaml", "")];
        assert_eq!(visible(&files, Some("# all\n/*\n!/manifests\n")), ["manifests/install/a.yaml"]);
        assert_eq!(visible(&files, Some("*.yaml\n!b.yaml\n")), ["other/b.yaml"]);
    }

    #[test]
    fn patterns_count_from_the_folder_of_their_file() {
        let files = [
            (".sourceignore", "/docs/\n**/*.tmp.yaml\n"),
            ("docs/a.yaml", ""),
            ("x/docs/a.yaml", ""),
            ("x/y/b.tmp.yaml", ""),
            ("x/.sourceignore", "keep*\n!keep2.yaml\n"),
            ("x/keep1.yaml", ""),
            ("x/keep2.yaml", ""),
            ("keep3.yaml", ""),
        ];
        assert_eq!(visible(&files, None), ["x/docs/a.yaml", "x/keep2.yaml", "keep3.yaml"]);
    }

    #[test]
    fn names_match_as_in_a_shell() {
        for (pattern, name, expected) in [
            ("*.yaml", "a.yaml", true),
            ("a*b*c", "aXbYbc", true),
            ("a?c", "abc", true),
            ("a?c", "ac", false),
            ("[a-c]x", "bx", true),
            ("[^a-c]x", "bx", false),
            ("\\*", "*", true),
            ("\\*", "a", false),
            ("[", "[", false),
            ("*", "", true),
        ] {
            assert_eq!(glob(pattern, name), expected, "{pattern} on {name}");
        }
    }
}
