//! ArtifactGenerator: which artifacts it makes of which sources. What a copy does is in [`super::copy`].
//!
//! The rules are those of Flux's source-watcher. Everything it makes is made here from the same trees a unit of the source
//! would be built from, so nothing has to be fetched, and a unit of an artifact costs what changed in it.

use std::collections::{BTreeMap, BTreeSet};

use driftless_yaml::Node;
use regex::Regex;

use super::copy::Copy;
use super::fields::{Fields, Note};
use super::place::Place;
use crate::compose::Part;
use crate::report::Code;
use crate::target::Location;
use crate::tree::{Entry, TreeError};

/// API group of Flux's source-watcher.
pub(crate) const GROUP: &str = "source.extensions.fluxcd.io";
/// Its kind.
pub(crate) const KIND: &str = "ArtifactGenerator";
/// The annotation that makes the controller leave it alone.
const RECONCILE: &str = "source.extensions.fluxcd.io/reconcile";
/// Artifacts of one generator, its path pattern written out.
const ARTIFACTS: usize = 1000;

/// An ArtifactGenerator.
#[derive(Clone, Debug)]
pub(crate) struct Generator {
    /// `namespace/name`.
    pub(crate) id: String,
    pub(crate) sources: Vec<Alias>,
    /// `spec.pathPattern`: an artifact per folder that matches.
    pub(crate) pattern: Option<(String, Location)>,
    pub(crate) outputs: Vec<Output>,
    /// Its controller leaves it alone: what it made before stays.
    pub(crate) disabled: bool,
    pub(crate) at: Location,
}

/// A source under the name by which copies refer to it.
#[derive(Clone, Debug)]
pub(crate) struct Alias {
    pub(crate) name: String,
    pub(crate) kind: String,
    /// `namespace/name`.
    pub(crate) id: String,
    pub(crate) at: Location,
}

/// One artifact.
#[derive(Clone, Debug)]
pub(crate) struct Output {
    /// The name of the ExternalArtifact.
    pub(crate) name: String,
    /// The source whose revision it takes over.
    pub(crate) revision: Option<String>,
    pub(crate) copies: Vec<Copy>,
}

impl Generator {
    /// Reads the object.
    pub(crate) fn read(node: &Node, place: &Place, id: &str, notes: &mut Vec<Note>) -> Result<Self, Note> {
        let namespace = id.split('/').next().unwrap_or_default();
        let object = Fields::of(node, place);
        let spec = object.map("spec")?;
        spec.unknown(&["artifacts", "commonMetadata", "pathPattern", "sources"], notes);
        let mut sources = Vec::new();
        let mut names = BTreeSet::new();
        for source in spec.maps("sources")? {
            source.unknown(&["alias", "kind", "name", "namespace"], notes);
            let alias = source.required("alias")?;
            if !names.insert(alias) {
                let message = format!("{} is {alias:?}, which another source has already", source.name("alias"));
                return Err(source.note(Code::InvalidSpec, "alias", message));
            }
            let namespace = source.filled("namespace")?.unwrap_or_else(|| namespace.to_owned());
            sources.push(Alias {
                name: alias.to_owned(),
                kind: source.required("kind")?.to_owned(),
                id: format!("{namespace}/{}", source.required("name")?),
                at: source.at("name"),
            });
        }
        let pattern = spec.filled("pathPattern")?.map(|text| (text, spec.at("pathPattern")));
        let mut outputs = Vec::new();
        for artifact in spec.maps("artifacts")? {
            artifact.unknown(&["copy", "name", "originRevision", "revision"], notes);
            let mut copies = Vec::new();
            for copy in artifact.maps("copy")? {
                copies.push(Copy::read(&copy, notes)?);
            }
            let revision = match artifact.filled("revision")? {
                None => None,
                Some(text) => match text.strip_prefix('@').filter(|alias| names.contains(alias)) {
                    Some(alias) => Some(alias.to_owned()),
                    None => {
                        let message =
                            format!("{} is {text:?}, which is the @alias of no source", artifact.name("revision"));
                        return Err(artifact.note(Code::InvalidSpec, "revision", message));
                    }
                },
            };
            outputs.push(Output { name: artifact.required("name")?.to_owned(), revision, copies });
        }
        if sources.is_empty() || outputs.is_empty() || outputs.iter().any(|o| o.copies.is_empty()) {
            let message =
                "an ArtifactGenerator needs sources, artifacts, and a copy in each artifact; add what is missing";
            return Err(spec.note(Code::InvalidSpec, "", message));
        }
        let annotation = node.at(&["metadata", "annotations", RECONCILE]).and_then(Node::as_str);
        let disabled = annotation.is_some_and(|value| value.eq_ignore_ascii_case("disabled"));
        Ok(Self { id: id.to_owned(), sources, pattern, outputs, disabled, at: place.at.clone() })
    }

    /// Whether an artifact of this name could be among those it makes, as far as that can be told without its sources.
    pub(crate) fn may_make(&self, name: &str) -> bool {
        self.pattern.is_some() || self.outputs.iter().any(|output| output.name == name)
    }

    /// The sources that an artifact takes files from, or all where that depends on the sources themselves.
    pub(crate) fn needed_by(&self, name: &str) -> Vec<&Alias> {
        match self.outputs.iter().find(|output| output.name == name) {
            Some(output) if self.pattern.is_none() => {
                let used: BTreeSet<&str> =
                    output.copies.iter().filter_map(Copy::alias).chain(output.revision.as_deref()).collect();
                self.sources.iter().filter(|source| used.contains(source.name.as_str())).collect()
            }
            _ => self.sources.iter().collect(),
        }
    }

    /// The artifacts it makes.
    pub(crate) fn artifacts(&self, parts: &BTreeMap<String, Part>) -> Result<Vec<Output>, Note> {
        let Some((text, at)) = &self.pattern else { return Ok(self.outputs.clone()) };
        let fail = |reason: String| Note {
            code: Code::ArtifactFailed,
            at: at.clone(),
            message: format!("{KIND} {}: spec.pathPattern {text:?}: {reason}", self.id),
        };
        let pattern = FolderPattern::read(text).map_err(fail)?;
        let part = parts
            .get(&pattern.alias)
            .ok_or_else(|| fail(format!("it has no source with the alias {:?}", pattern.alias)))?;
        let found = pattern.find(part).map_err(|e| fail(e.to_string()))?;
        let mut out = Vec::new();
        let mut names: BTreeMap<String, String> = BTreeMap::new();
        for (folder, captures) in found {
            let lower: BTreeMap<String, String> = captures.iter().map(|(k, v)| (k.clone(), v.to_lowercase())).collect();
            if let Some((name, value)) = lower.iter().find(|(_, value)| !is_label_value(value)) {
                return Err(fail(format!(
                    "{value:?} for {{{name}}} in {folder:?} is no Kubernetes label value; rename the folder, or narrow the pattern"
                )));
            }
            for output in &self.outputs {
                let output = output.filled(&lower, &captures).map_err(|e| fail(format!("for {folder:?}: {e}")))?;
                if !is_object_name(&output.name) {
                    return Err(fail(format!(
                        "for {folder:?} it makes the name {:?}, which is no object's",
                        output.name
                    )));
                }
                if let Some(first) = names.insert(output.name.clone(), folder.clone()) {
                    return Err(fail(format!("{first:?} and {folder:?} both lead to the artifact {}", output.name)));
                }
                if out.len() >= ARTIFACTS {
                    return Err(fail(format!("it makes more than {ARTIFACTS} artifacts")));
                }
                out.push(output);
            }
        }
        Ok(out)
    }
}

impl Output {
    /// With the captures of a path pattern: names in lower case, paths as they are.
    fn filled(&self, lower: &BTreeMap<String, String>, raw: &BTreeMap<String, String>) -> Result<Self, String> {
        let mut out = self.clone();
        out.name = fill(&self.name, lower)?;
        for copy in &mut out.copies {
            copy.from = fill(&copy.from, raw)?;
            copy.to = fill(&copy.to, raw)?;
        }
        Ok(out)
    }
}

/// Whether a generator, by its object alone, may make this ExternalArtifact of its own namespace.
pub(crate) fn node_may_make(node: &Node, name: &str) -> bool {
    let names = node.at(&["spec", "artifacts"]).and_then(Node::as_seq).into_iter().flatten();
    node.at(&["spec", "pathPattern"]).is_some()
        || names.filter_map(|artifact| artifact.at(&["name"])?.as_str()).any(|n| n == name)
}

/// Replaces `{name}`.
fn fill(text: &str, captures: &BTreeMap<String, String>) -> Result<String, String> {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find(['{', '}']) {
        out.push_str(&rest[..at]);
        let inside = rest[at..].strip_prefix('{').and_then(|r| r.split_once('}'));
        let Some((name, after)) = inside else { return Err(format!("{text:?} has a brace without its other half")) };
        let value =
            captures.get(name).ok_or_else(|| format!("{text:?} names {{{name}}}, which the pattern does not have"))?;
        out.push_str(value);
        rest = after;
    }
    out.push_str(rest);
    Ok(out)
}

/// What the names of a path pattern stand for.
type Captures = BTreeMap<String, String>;

/// `@alias/apps/{app}/envs/{env}`.
struct FolderPattern {
    alias: String,
    /// One per folder on the way; the names in them are the captures.
    steps: Vec<Regex>,
}

impl FolderPattern {
    fn read(text: &str) -> Result<Self, String> {
        let rest = text.strip_prefix('@').and_then(|t| t.split_once('/'));
        let Some((alias, pattern)) = rest else { return Err("it must read @alias/path".to_owned()) };
        let mut names = BTreeSet::new();
        let steps = pattern.split('/').map(|step| step_of(step, &mut names)).collect::<Result<_, _>>()?;
        Ok(Self { alias: alias.to_owned(), steps })
    }

    /// The folders that match, in the order of a walk, with what was captured.
    fn find(&self, part: &Part) -> Result<Vec<(String, Captures)>, TreeError> {
        let mut found = vec![(String::new(), BTreeMap::new())];
        for step in &self.steps {
            let mut next = Vec::new();
            for (folder, captures) in found {
                for (name, entry) in part.tree.list(&folder)?.unwrap_or_default() {
                    if !matches!(entry, Entry::Folder { .. }) {
                        continue;
                    }
                    let Some(matched) = step.captures(&name) else { continue };
                    let mut captures: BTreeMap<String, String> = captures.clone();
                    for key in step.capture_names().flatten() {
                        let value = matched.name(key).map_or("", |m| m.as_str());
                        captures.insert(key.to_owned(), value.to_owned());
                    }
                    next.push((super::path::join(&folder, &name), captures));
                }
            }
            found = next;
        }
        Ok(found)
    }
}

/// One step of a path pattern, with `{name}` for one or more characters.
fn step_of(step: &str, names: &mut BTreeSet<String>) -> Result<Regex, String> {
    let mut out = String::from("(?s)^");
    let mut rest = step;
    while let Some(at) = rest.find(['{', '}']) {
        out.push_str(&regex::escape(&rest[..at]));
        let inside = rest[at..].strip_prefix('{').and_then(|r| r.split_once('}'));
        let Some((name, after)) = inside else { return Err("it has a brace without its other half".to_owned()) };
        let starts_well = name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_');
        if !starts_well || !name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_') {
            return Err(format!("{{{name}}} is no name of letters, digits and underscores"));
        }
        if !names.insert(name.to_owned()) {
            return Err(format!("{{{name}}} stands twice"));
        }
        out.push_str(&format!("(?P<{name}>[^/]+)"));
        rest = after;
    }
    out.push_str(&regex::escape(rest));
    out.push_str(r"\z");
    Regex::new(&out).map_err(|e| e.to_string())
}

/// A value of a Kubernetes label that is not empty.
fn is_label_value(text: &str) -> bool {
    let inside = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    let ends = |c: Option<char>| c.is_some_and(|c| c.is_ascii_alphanumeric());
    text.len() <= 63 && text.chars().all(inside) && ends(text.chars().next()) && ends(text.chars().next_back())
}

/// A name of a Kubernetes object: a DNS subdomain.
fn is_object_name(text: &str) -> bool {
    let label = |label: &str| {
        let inside = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        !label.is_empty() && !label.starts_with('-') && !label.ends_with('-') && label.chars().all(inside)
    };
    text.len() <= 253 && text.split('.').all(label)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tree::MemTree;
    use std::sync::Arc;

    fn read(text: &str) -> Result<Generator, String> {
        let text = format!("kind: {KIND}\nmetadata: {{name: g, namespace: ns}}\n{text}");
        let dialect = driftless_yaml::Dialect::Resource;
        let document = driftless_yaml::parse_one(text.as_bytes(), dialect, &driftless_yaml::Limits::default()).unwrap();
        Generator::read(&document.node, &Place::nowhere("s"), "ns/g", &mut Vec::new()).map_err(|note| note.message)
    }

    fn made(text: &str, folders: &[&str]) -> Result<Vec<String>, String> {
        let generator = read(text)?;
        let mut tree = MemTree::new();
        for folder in folders {
            tree.insert(format!("{folder}/a.yaml"), b"a: 1".to_vec());
        }
        let part = Part { source: "s".into(), tree: Arc::new(tree) };
        let outputs = generator.artifacts(&BTreeMap::from([("m".to_owned(), part)])).map_err(|note| note.message)?;
        Ok(outputs.into_iter().map(|o| format!("{} {} {}", o.name, o.copies[0].from, o.copies[0].to)).collect())
    }

    const FAN: &str = "spec:\n  sources: [{alias: m, kind: GitRepository, name: r}]\n  pathPattern: '@m/PATTERN'\n  \
                       artifacts: [{name: 'NAME', copy: [{from: '@m/apps/{app}/**', to: '@artifact/{app}/'}]}]\n";

    fn fan(pattern: &str, name: &str, folders: &[&str]) -> Result<Vec<String>, String> {
        made(&FAN.replace("PATTERN", pattern).replace("NAME", name), folders)
    }

    #[test]
    fn a_path_pattern_makes_an_artifact_per_folder() {
        let folders =
            ["apps/Auth/envs/prod", "apps/web/envs/prod", "apps/web/envs/dev", "apps/web/other", "x/y/envs/z"];
        assert_eq!(
            fan("apps/{app}/envs/{env}", "{app}-{env}", &folders).unwrap(),
            [
                "auth-prod @m/apps/Auth/** @artifact/Auth/",
                "web-dev @m/apps/web/** @artifact/web/",
                "web-prod @m/apps/web/** @artifact/web/"
            ]
        );
        assert_eq!(fan("apps/{app}", "a-{app}", &["lib/x"]).unwrap(), Vec::<String>::new());
        assert_eq!(fan("apps/w{app}", "{app}", &["apps/web", "apps/x"]).unwrap(), ["eb @m/apps/eb/** @artifact/eb/"]);
    }

    #[test]
    fn a_bad_path_pattern_says_what_is_wrong() {
        for (pattern, name, folders, words) in [
            ("apps/{app}", "{app}", vec!["apps/A", "apps/a"], "both lead to the artifact a"),
            ("apps/{app}", "{app}", vec!["apps/.hidden"], "label value"),
            ("apps/{app}", "{nope}", vec!["apps/a"], "{nope}"),
            ("apps/{app}", "{app", vec!["apps/a"], "brace"),
            ("apps/{app}/{app}", "{app}", vec!["apps/a/b"], "twice"),
            ("apps/{1}", "x", vec![], "letters"),
            ("apps/{app", "x", vec![], "brace"),
            ("apps/{app}", "{app}_x", vec!["apps/a"], "no object's"),
        ] {
            let got = fan(pattern, name, &folders).unwrap_err();
            assert!(got.contains(words) && got.contains("ns/g"), "{pattern}: {got}");
        }
    }

    #[test]
    fn the_annotation_pauses_it_in_any_letter_case() {
        for (value, expected) in [("disabled", true), ("Disabled", true), ("enabled", false), ("no", false)] {
            let text = FAN.replace("PATTERN", "a").replace("NAME", "a");
            let text = format!("kind: {KIND}\nmetadata:\n  annotations: {{{RECONCILE}: '{value}'}}\n{text}");
            let dialect = driftless_yaml::Dialect::Resource;
            let document =
                driftless_yaml::parse_one(text.as_bytes(), dialect, &driftless_yaml::Limits::default()).unwrap();
            let generator = Generator::read(&document.node, &Place::nowhere("s"), "ns/g", &mut Vec::new());
            assert_eq!(generator.map(|g| g.disabled).map_err(|n| n.message), Ok(expected), "{value}");
        }
    }

    #[test]
    fn what_the_api_server_would_refuse_is_refused() {
        for (text, words) in [
            ("spec: {}\n", "needs sources"),
            (
                "spec: {sources: [{alias: a, kind: GitRepository, name: r}], artifacts: [{name: x, copy: []}]}\n",
                "needs sources",
            ),
            (
                "spec: {sources: [{alias: a, kind: G, name: r}, {alias: a, kind: G, name: s}], artifacts: []}\n",
                "already",
            ),
            (
                "spec: {sources: [{alias: a, kind: G, name: r}], artifacts: [{name: x, revision: '@b', copy: [{from: '@a/', to: '@artifact/'}]}]}\n",
                "@alias of no source",
            ),
            (
                "spec: {sources: [{alias: a, kind: G, name: r}], artifacts: [{name: x, copy: [{from: '@a/', to: '@artifact/', strategy: Blend}]}]}\n",
                "Blend",
            ),
        ] {
            let got = read(text).unwrap_err();
            assert!(got.contains(words), "{text}: {got}");
        }
    }
}
