//! Files of a source that no build sees: Flux's default exclusions, `.sourceignore` at any depth, `spec.ignore`.
//!
//! The rules are those of Flux's source-controller. Patterns are as in `.gitignore`; a `.sourceignore` counts from its own
//! folder down; `spec.ignore` comes last; the last pattern that matches decides, and a file below an excluded folder may be
//! taken in again. As soon as a source has one pattern of its own, wherever it stands, only Git's own files of the default
//! exclusions stay excluded in all of it.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use super::path;
use crate::glob;
use crate::tree::{ContentId, Entry, Tree, TreeError};

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
pub(crate) const FILE: &str = ".sourceignore";

/// What a source excludes, as far as it is known before its folders are looked into.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Rules {
    /// `spec.ignore`.
    spec: Option<String>,
    /// The default exclusions do not count: the source has patterns of its own.
    own: bool,
    /// Folders with a `.sourceignore` that takes files in again.
    takes_in: Vec<String>,
    /// Nothing is excluded.
    everything: bool,
}

impl Rules {
    /// The rules of a source with this tree. Looks for `.sourceignore` files everywhere in it.
    pub(crate) fn of(tree: &dyn Tree, spec: Option<&str>) -> Result<Self, TreeError> {
        let mut own = spec.is_some_and(|text| !read_all(text, "").is_empty());
        let mut takes_in = Vec::new();
        for file in tree.find("", FILE)? {
            let bytes = tree.read(&file)?.unwrap_or_default();
            let patterns = read_all(&String::from_utf8_lossy(&bytes), "");
            own |= !patterns.is_empty();
            if patterns.iter().any(|pattern| pattern.includes) {
                takes_in.push(parent(&file).to_owned());
            }
        }
        Ok(Self { spec: spec.map(str::to_owned), own, takes_in, everything: false })
    }

    /// The rules of an OCI artifact that is taken as it is.
    pub(crate) fn everything() -> Self {
        Self { everything: true, ..Self::default() }
    }

    /// Whether a `.sourceignore` in this folder or below it takes files in again.
    fn takes_in_below(&self, folder: &str) -> bool {
        let inside = |at: &String| at.strip_prefix(folder).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
        self.takes_in.iter().any(inside)
    }
}

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

/// Who looks at a source.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum View {
    /// A build of its own: links are there to be followed inside the tree.
    Build,
    /// Another source that takes files from it, which get what Flux packs: no links.
    Artifact,
    /// What an ArtifactGenerator made: `.sourceignore` is a file like others there.
    Generated,
}

/// Patterns that count in a folder, from the top down, and what tells them apart from others.
#[derive(Clone)]
struct Patterns {
    list: Arc<Vec<Pattern>>,
    id: [u8; 32],
}

/// A tree without what its source excludes.
pub(crate) struct Visible {
    inner: Arc<dyn Tree>,
    view: View,
    rules: Rules,
    spec: Vec<Pattern>,
    /// Patterns of `.sourceignore` by folder.
    folders: Mutex<BTreeMap<String, Patterns>>,
    above: Patterns,
    git: Vec<Pattern>,
    default: Vec<Pattern>,
}

impl Visible {
    /// What a build of the source's own units sees.
    pub(crate) fn new(inner: Arc<dyn Tree>, rules: &Rules) -> Self {
        Self::with(inner, rules, View::Build)
    }

    /// What other sources see.
    pub(crate) fn artifact(inner: Arc<dyn Tree>, rules: &Rules) -> Self {
        Self::with(inner, rules, View::Artifact)
    }

    /// What is left of a generated artifact when it is packed: the default exclusions once more.
    pub(crate) fn generated(inner: Arc<dyn Tree>) -> Self {
        Self::with(inner, &Rules::default(), View::Generated)
    }

    fn with(inner: Arc<dyn Tree>, rules: &Rules, view: View) -> Self {
        let fixed = |list: &[&str]| match rules.everything {
            true => Vec::new(),
            false => list.iter().filter_map(|line| Pattern::read(line, "")).collect(),
        };
        let text = format!("{view:?} {rules:?}");
        Self {
            inner,
            view,
            rules: rules.clone(),
            spec: rules.spec.as_deref().map(|text| read_all(text, "")).unwrap_or_default(),
            folders: Mutex::default(),
            above: Patterns { list: Arc::default(), id: *blake3::hash(text.as_bytes()).as_bytes() },
            git: fixed(GIT),
            default: fixed(DEFAULT),
        }
    }

    /// The patterns written in a folder and above it.
    fn patterns(&self, folder: &str) -> Result<Patterns, TreeError> {
        if self.view == View::Generated || !self.rules.own {
            return Ok(self.above.clone());
        }
        let known = |folder: &str| self.folders.lock().unwrap_or_else(PoisonError::into_inner).get(folder).cloned();
        if let Some(patterns) = known(folder) {
            return Ok(patterns);
        }
        // From the top down: `""`, `a`, `a/b`, ...
        let ends = folder.match_indices('/').map(|(at, _)| at).chain((!folder.is_empty()).then_some(folder.len()));
        let mut above = self.above.clone();
        for end in std::iter::once(0).chain(ends) {
            let here = &folder[..end];
            above = match known(here) {
                Some(patterns) => patterns,
                None => self.read_patterns(here, above)?,
            };
        }
        Ok(above)
    }

    fn read_patterns(&self, folder: &str, above: Patterns) -> Result<Patterns, TreeError> {
        let file = path::join(folder, FILE);
        let mut patterns = above;
        if let Some(Entry::File { id, .. }) = self.inner.entry(&file)?
            && let Some(bytes) = self.inner.read(&file)?
        {
            Arc::make_mut(&mut patterns.list).extend(read_all(&String::from_utf8_lossy(&bytes), folder));
            let mut hasher = blake3::Hasher::new_keyed(&patterns.id);
            hasher.update(&id.0);
            hasher.update(folder.as_bytes());
            patterns.id = *hasher.finalize().as_bytes();
        }
        self.folders.lock().unwrap_or_else(PoisonError::into_inner).insert(folder.to_owned(), patterns.clone());
        Ok(patterns)
    }

    /// Whether a path is hidden. A folder is hidden only when nothing below it can be taken in again.
    fn hidden(&self, at: &str, entry: &Entry, files: &Patterns) -> bool {
        if self.view != View::Build && matches!(entry, Entry::Link { .. } | Entry::Submodule) {
            return true;
        }
        let is_folder = matches!(entry, Entry::Folder { .. });
        let default: &[Pattern] = if self.rules.own { &[] } else { &self.default };
        let mut includes = false;
        let files = files.list.iter().rev();
        for pattern in self.spec.iter().rev().chain(files).chain(default.iter().rev()).chain(&self.git) {
            includes |= pattern.includes;
            if pattern.matches(at, is_folder) {
                return !(pattern.includes || is_folder && (includes || self.rules.takes_in_below(at)));
            }
        }
        false
    }

    /// What stands at a path, as it is shown: a folder's identity says what is hidden in it too.
    fn shown(&self, at: &str, entry: Entry, files: &Patterns) -> Option<Entry> {
        if self.hidden(at, &entry, files) {
            return None;
        }
        Some(match entry {
            Entry::Folder { id } => Entry::Folder { id: self.mixed(id, at, files) },
            other => other,
        })
    }

    fn mixed(&self, id: ContentId, at: &str, files: &Patterns) -> ContentId {
        let mut hasher = blake3::Hasher::new_keyed(&files.id);
        hasher.update(&id.0);
        if self.rules.own {
            // Patterns may be about places: equal folders in two places may show different files.
            hasher.update(at.as_bytes());
        }
        ContentId(*hasher.finalize().as_bytes())
    }
}

fn parent(at: &str) -> &str {
    at.rsplit_once('/').map_or("", |(folder, _)| folder)
}

fn read_all(text: &str, folder: &str) -> Vec<Pattern> {
    text.lines().filter_map(|line| Pattern::read(line, folder)).collect()
}

impl Pattern {
    fn read(line: &str, folder: &str) -> Option<Self> {
        if line.trim().is_empty() || line.starts_with('#') {
            return None;
        }
        let line = if line.ends_with("\\ ") { line } else { line.trim_end_matches(' ') };
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
            .find(|(_, name)| glob(pattern, name))
            // The first name that matches decides.
            .is_some_and(|(at, _)| !(self.only_folders && !is_folder && at + 1 == names.len()))
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
                    matched = true;
                }
            }
        }
        matched && !(self.only_folders && !is_folder && rest.is_empty())
    }
}

/// A pattern that cannot be read matches nothing.
fn glob(pattern: &str, name: &str) -> bool {
    glob::name(pattern, name).unwrap_or(false)
}

impl Tree for Visible {
    fn entry(&self, at: &str) -> Result<Option<Entry>, TreeError> {
        let Some(entry) = self.inner.entry(at)? else { return Ok(None) };
        if at.is_empty() {
            return Ok(Some(match entry {
                Entry::Folder { id } => Entry::Folder { id: self.mixed(id, at, &self.above) },
                other => other,
            }));
        }
        Ok(self.shown(at, entry, &self.patterns(parent(at))?))
    }

    fn list(&self, at: &str) -> Result<Option<Vec<(String, Entry)>>, TreeError> {
        let Some(entries) = self.inner.list(at)? else { return Ok(None) };
        let patterns = self.patterns(at)?;
        let shown = |(name, entry): (String, Entry)| {
            self.shown(&path::join(at, &name), entry, &patterns).map(|entry| (name, entry))
        };
        Ok(Some(entries.into_iter().filter_map(shown).collect()))
    }

    fn read(&self, at: &str) -> Result<Option<Arc<[u8]>>, TreeError> {
        // Links are read too: their target is their content.
        let Some(entry) = self.inner.entry(at)? else { return Ok(None) };
        if self.hidden(at, &entry, &self.patterns(parent(at))?) { Ok(None) } else { self.inner.read(at) }
    }

    fn origin(&self, at: &str) -> Option<(Arc<str>, String)> {
        self.inner.origin(at)
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
        let tree: Arc<dyn Tree> = Arc::new(tree);
        let rules = Rules::of(&*tree, spec).unwrap();
        let tree = Visible::new(tree, &rules);
        let mut walked = Vec::new();
        let mut open = vec![String::new()];
        while let Some(folder) = open.pop() {
            for (name, entry) in tree.list(&folder).unwrap().unwrap() {
                let here = path::join(&folder, &name);
                if matches!(entry, Entry::Folder { .. }) { open.push(here) } else { walked.push(here) }
            }
        }
        let readable = |path: &&str| tree.read(path).unwrap().is_some();
        let seen: Vec<&str> = files.iter().map(|(path, _)| *path).filter(readable).collect();
        assert!(
            seen.iter().all(|path| walked.iter().any(|w| w == path)),
            "{seen:?} can be read, {walked:?} are listed"
        );
        assert_eq!(seen.len(), walked.len(), "{walked:?}");
        seen.into_iter().filter(|path| !path.ends_with(FILE)).map(str::to_owned).collect()
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
            (".sourceignore", "/docs/\n**/*.tmp.yaml\n/gone/\n"),
            ("gone/a.yaml", ""),
            ("gone/deep/.sourceignore", "!back.yaml\n"),
            ("gone/deep/back.yaml", ""),
            ("gone/deep/other.yaml", ""),
            ("docs/a.yaml", ""),
            ("x/docs/a.yaml", ""),
            ("x/y/b.tmp.yaml", ""),
            ("x/.sourceignore", "keep*\n!keep2.yaml\n"),
            ("x/keep1.yaml", ""),
            ("x/keep2.yaml", ""),
            ("keep3.yaml", ""),
        ];
        assert_eq!(visible(&files, None), ["gone/deep/back.yaml", "x/docs/a.yaml", "x/keep2.yaml", "keep3.yaml"]);
    }

    #[test]
    fn one_pattern_anywhere_ends_the_default_exclusions_everywhere() {
        let files = [("a.png", ""), ("x/b.zip", ""), ("deep/er/.sourceignore", "*.txt\n"), (".gitignore", "")];
        assert_eq!(visible(&files, None), ["a.png", "x/b.zip"]);
        let comment = [("a.png", ""), ("deep/.sourceignore", "# nothing\n\n"), ("b.yaml", "")];
        assert_eq!(visible(&comment, None), ["b.yaml"], "a file without a pattern changes nothing");
        assert_eq!(visible(&comment, Some("\n# nothing\n")), ["b.yaml"]);
    }

    #[test]
    fn patterns_read_as_flux_reads_them() {
        let names = ["a.yaml", "b/a.yaml", "b/c/a.yaml", "d", "x y ", "b/only", "e/only/f", "[a].yaml"];
        for (spec, hidden) in [
            ("/a.yaml", vec!["a.yaml"]),
            ("a.yaml", vec!["a.yaml", "b/a.yaml", "b/c/a.yaml"]),
            ("b/*.yaml", vec!["b/a.yaml"]),
            ("b/**/*.yaml", vec!["b/a.yaml", "b/c/a.yaml"]),
            ("**/c", vec!["b/c/a.yaml"]),
            ("only/", vec!["e/only/f"]),
            ("b/**", vec!["b/a.yaml", "b/c/a.yaml", "b/only"]),
            // As Flux has it: what `**` stands for may be nothing.
            ("d/**", vec!["d"]),
            ("x y\\ ", vec!["x y "]),
            ("x y ", vec![]),
            ("*.yaml\n!b/c/a.yaml", vec!["a.yaml", "b/a.yaml", "[a].yaml"]),
            ("*.yaml  \r\n!/a.yaml", vec!["b/a.yaml", "b/c/a.yaml", "[a].yaml"]),
            ("[", vec![]),
            ("a**b/x", vec![]),
        ] {
            let files: Vec<(&str, &str)> = names.iter().map(|name| (*name, "")).collect();
            let seen = visible(&files, Some(spec));
            let gone: Vec<&str> = names.into_iter().filter(|n| !seen.iter().any(|s| s == n)).collect();
            assert_eq!(gone, hidden, "{spec:?}");
        }
    }

    #[test]
    fn a_listing_shows_what_can_be_read_and_a_folder_is_named_by_what_it_shows() {
        let mut tree = MemTree::new();
        for path in ["a/x.yaml", "a/y.txt", "b/x.yaml", "b/y.txt"] {
            tree.insert(path, path.as_bytes()[2..].to_vec());
        }
        tree.insert_link("a/link", "x.yaml");
        let tree: Arc<dyn Tree> = Arc::new(tree);
        let of = |spec: Option<&str>| {
            let rules = Rules::of(&*tree, spec).unwrap();
            Visible::artifact(tree.clone(), &rules)
        };
        let (plain, rules) = (of(None), of(Some("*.txt")));
        let names = |t: &Visible| t.list("a").unwrap().unwrap().into_iter().map(|(n, _)| n).collect::<Vec<_>>();
        assert_eq!((names(&plain), names(&rules)), (vec!["x.yaml".into(), "y.txt".into()], vec!["x.yaml".into()]));
        assert_eq!(rules.read("a/y.txt").unwrap(), None);
        assert_eq!(
            (rules.entry("a/link").unwrap(), rules.read("a/link").unwrap()),
            (None, None),
            "Flux packs no links"
        );
        assert_ne!(plain.entry("a").unwrap(), rules.entry("a").unwrap(), "other rules, other content");
        assert_ne!(plain.entry("").unwrap(), rules.entry("").unwrap());
        assert_eq!(rules.entry("a").unwrap(), of(Some("*.txt")).entry("a").unwrap());
        let listed: BTreeMap<String, Entry> = rules.list("").unwrap().unwrap().into_iter().collect();
        assert_eq!(listed.get("a").copied(), rules.entry("a").unwrap());
    }
}
