//! Schemas of kinds: a compact text form of those Kubernetes itself has, and the types they are made of.
//!
//! ```text
//! driftless-schemas 1                                   format
//! kubernetes v1.36.3                                    the server they were read from
//! kind apps/v1 Deployment namespaced apps.v1.Deployment one line for each kind: version, kind, scope, type
//! kind batch/v2 Job namespaced off batch.v2.Job         `off`: served only where it is switched on
//! type core.v1.ContainerPort {!containerPort:i,hostIP:s,...}
//! ```
//! A type is `s` text, `i` integer, `n` number, `b` boolean, `y` bytes in base64, `q` quantity, `t` time, `x` integer or
//! text, `*` anything; `"A"|"B"` one of these texts; `[T]` a list, `[T;a,b]` a list whose items are told apart by these
//! fields; `<T>` a map; `{name:T,...}` an object, `!` before required fields; `@name` a named type.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use serde_json::Value;

/// Where a type is kept: an index.
pub(super) type TypeId = usize;

/// The kinds of one Kubernetes version, or of CustomResourceDefinitions.
#[derive(Clone, Debug, Default)]
pub struct Schemas {
    /// `v1.36.3`; empty for definitions of a repository.
    pub version: String,
    pub(super) types: Vec<Type>,
    /// By `group/version` and kind.
    pub(super) kinds: BTreeMap<(Arc<str>, Arc<str>), KindSchema>,
}

/// One kind in one version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KindSchema {
    /// Its type.
    pub(super) root: TypeId,
    /// Whether its objects live in a namespace.
    pub namespaced: bool,
    /// Served only where it is switched on.
    pub off: bool,
}

/// A type.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Type {
    pub(super) what: What,
    /// `null` is a value of its own; for Kubernetes' own types it means "not set" and is always taken.
    pub(super) nullable: bool,
    pub(super) fields: BTreeMap<Box<str>, TypeId>,
    pub(super) required: Vec<Box<str>>,
    /// Values of fields beyond `fields`.
    pub(super) rest: Rest,
    pub(super) enums: Vec<Value>,
    pub(super) list_keys: Vec<Box<str>>,
    /// A list that has each value once.
    pub(super) set: bool,
    /// A whole object of some kind.
    pub(super) embedded: bool,
    /// What the API server sets where it is absent.
    pub(super) default: Option<Box<Value>>,
    /// What CustomResourceDefinitions say beyond the shape.
    pub(super) rules: Option<Box<super::rules::Rules>>,
}

/// What a value is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum What {
    #[default]
    Any,
    Text,
    Bytes,
    Quantity,
    Time,
    Integer,
    Number,
    Boolean,
    IntegerOrText,
    List(Option<TypeId>),
    Object,
}

/// What fields beyond those named may be.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Rest {
    /// There may be none.
    #[default]
    None,
    /// Anything.
    Any,
    /// Values of this type: a map.
    Of(TypeId),
}

/// Why a text holds no schemas.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line} of the schemas: {reason}")]
pub struct SchemaError {
    line: usize,
    reason: String,
}

const FORMAT: &str = "driftless-schemas 1";
/// How deep types may be written inside each other; named types end the nesting.
const DEPTH: usize = 16;

impl Schemas {
    /// A kind in a version.
    #[must_use]
    pub fn kind(&self, api_version: &str, kind: &str) -> Option<&KindSchema> {
        self.kinds.get(&(Arc::from(api_version), Arc::from(kind)))
    }

    /// The versions, `group/version`, in which a kind of a group is known.
    pub fn versions<'a>(&'a self, group: &'a str, kind: &'a str) -> impl Iterator<Item = (&'a str, &'a KindSchema)> {
        self.kinds.iter().filter_map(move |((api_version, name), schema)| {
            (&**name == kind && driftless_protocol::object::group_of(api_version) == group)
                .then_some((&**api_version, schema))
        })
    }

    /// Whether any kind of this group is known.
    #[must_use]
    pub fn has_group(&self, group: &str) -> bool {
        self.kinds.keys().any(|(api_version, _)| driftless_protocol::object::group_of(api_version) == group)
    }

    /// The type of Kubernetes' own `metadata`.
    pub(super) fn metadata(&self) -> Option<TypeId> {
        let any = self.kind("v1", "ConfigMap")?;
        self.type_of(any.root).fields.get("metadata").copied()
    }

    pub(super) fn type_of(&self, id: TypeId) -> &Type {
        static ANY: Type = Type {
            what: What::Any,
            nullable: true,
            fields: BTreeMap::new(),
            required: Vec::new(),
            rest: Rest::Any,
            enums: Vec::new(),
            list_keys: Vec::new(),
            set: false,
            embedded: false,
            default: None,
            rules: None,
        };
        self.types.get(id).unwrap_or(&ANY)
    }

    pub(super) fn push(&mut self, new: Type) -> TypeId {
        self.types.push(new);
        self.types.len() - 1
    }

    /// Reads the text form.
    ///
    /// # Errors
    /// The first line that is not in it.
    pub fn parse(text: &str) -> Result<Self, SchemaError> {
        let mut out = Self::default();
        let mut names: BTreeMap<&str, TypeId> = BTreeMap::new();
        let wrong = |line: usize, reason: &str| SchemaError { line: line + 1, reason: reason.to_owned() };
        // Names first: types refer to each other in any order.
        for line in text.lines() {
            if let Some((name, _)) = line.strip_prefix("type ").and_then(|rest| rest.split_once(' ')) {
                let id = out.push(Type::default());
                names.insert(name, id);
            }
        }
        for (at, line) in text.lines().enumerate() {
            let (word, rest) = line.split_once(' ').unwrap_or((line, ""));
            match word {
                "driftless-schemas" if line == FORMAT => {}
                "kubernetes" => rest.clone_into(&mut out.version),
                "kind" => {
                    let words: Vec<&str> = rest.split(' ').collect();
                    let (api_version, kind, scope, off, root) = match words.as_slice() {
                        [a, k, scope, root] => (*a, *k, *scope, false, *root),
                        [a, k, scope, "off", root] => (*a, *k, *scope, true, *root),
                        _ => return Err(wrong(at, "a kind needs a version, a name, a scope and a type")),
                    };
                    let namespaced = match scope {
                        "namespaced" => true,
                        "cluster" => false,
                        _ => return Err(wrong(at, "a scope is namespaced or cluster")),
                    };
                    let root = *names.get(root).ok_or_else(|| wrong(at, "a kind of a type that is not there"))?;
                    let schema = KindSchema { root, namespaced, off };
                    out.kinds.insert((Arc::from(api_version), Arc::from(kind)), schema);
                }
                "type" => {
                    let (name, text) = rest.split_once(' ').unwrap_or_default();
                    let mut parser = Parser { rest: text, names: &names, schemas: &mut out };
                    let parsed = parser.one(0).map_err(|reason| wrong(at, reason))?;
                    if !parser.rest.is_empty() {
                        return Err(wrong(at, "more after the end of a type"));
                    }
                    if let Some(slot) = names.get(name).and_then(|id| out.types.get_mut(*id)) {
                        *slot = parsed;
                    }
                }
                _ => return Err(wrong(at, "not in a known form")),
            }
        }
        Ok(out)
    }
}

struct Parser<'a, 'b> {
    rest: &'a str,
    names: &'b BTreeMap<&'a str, TypeId>,
    schemas: &'b mut Schemas,
}

impl<'a> Parser<'a, '_> {
    fn take(&mut self, c: char) -> bool {
        match self.rest.strip_prefix(c) {
            Some(rest) => {
                self.rest = rest;
                true
            }
            None => false,
        }
    }

    fn word(&mut self, ends: &[char]) -> &'a str {
        let end = self.rest.find(ends).unwrap_or(self.rest.len());
        let (word, rest) = self.rest.split_at(end);
        self.rest = rest;
        word
    }

    /// A type as the value of a field or item: named ones are shared.
    fn id(&mut self, depth: usize) -> Result<TypeId, &'static str> {
        if depth > DEPTH {
            return Err("types stand too deep inside each other");
        }
        if self.take('@') {
            let name = self.word(&[',', '}', ']', '>', ';']);
            return self.names.get(name).copied().ok_or("a name of no type");
        }
        let new = self.one(depth)?;
        Ok(self.schemas.push(new))
    }

    fn one(&mut self, depth: usize) -> Result<Type, &'static str> {
        let mut out = Type { nullable: true, ..Type::default() };
        if self.rest.starts_with('"') {
            out.what = What::Text;
            loop {
                if !self.take('"') {
                    return Err("a text needs quotes");
                }
                out.enums.push(Value::from(self.word(&['"'])));
                self.take('"');
                if !self.take('|') {
                    return Ok(out);
                }
            }
        }
        let Some(first) = self.rest.chars().next() else { return Err("a type is missing") };
        self.rest = &self.rest[first.len_utf8()..];
        out.what = match first {
            's' => What::Text,
            'y' => What::Bytes,
            'q' => What::Quantity,
            't' => What::Time,
            'i' => What::Integer,
            'n' => What::Number,
            'b' => What::Boolean,
            'x' => What::IntegerOrText,
            '*' => {
                out.rest = Rest::Any;
                What::Any
            }
            '[' => {
                let item = self.id(depth + 1)?;
                if self.take(';') {
                    out.list_keys = self.word(&[']']).split(',').map(Into::into).collect();
                }
                if !self.take(']') {
                    return Err("a list has no end");
                }
                What::List(Some(item))
            }
            '<' => {
                out.rest = Rest::Of(self.id(depth + 1)?);
                if !self.take('>') {
                    return Err("a map has no end");
                }
                What::Object
            }
            '{' => {
                if self.take('*') {
                    out.rest = Rest::Any;
                }
                while !self.take('}') {
                    let required = self.take('!');
                    let name = self.word(&[':', '}']);
                    if name.is_empty() || !self.take(':') {
                        return Err("a field needs a name and a type");
                    }
                    let id = self.id(depth + 1)?;
                    if required {
                        out.required.push(name.into());
                    }
                    out.fields.insert(name.into(), id);
                    self.take(',');
                }
                What::Object
            }
            _ => return Err("no type begins like this"),
        };
        Ok(out)
    }
}

/// Writes the text form of types that have names of their own. Used by the recorder; what it writes, [`Schemas::parse`]
/// reads.
pub(super) struct Writer<'a> {
    /// Named types, in the order of their names.
    pub(super) named: BTreeMap<&'a str, String>,
    /// Kinds: version, kind, namespaced, off, name of the type.
    pub(super) kinds: Vec<(String, String, bool, bool, &'a str)>,
    pub(super) version: &'a str,
}

impl fmt::Display for Writer<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{FORMAT}\nkubernetes {}", self.version)?;
        for (api_version, kind, namespaced, off, name) in &self.kinds {
            let scope = if *namespaced { "namespaced" } else { "cluster" };
            let off = if *off { " off" } else { "" };
            writeln!(f, "kind {api_version} {kind} {scope}{off} {name}")?;
        }
        for (name, text) in &self.named {
            writeln!(f, "type {name} {text}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_text_form_is_read() {
        let text = "driftless-schemas 1\nkubernetes v1.36.3\nkind v1 Pod namespaced core.Pod\nkind a/v1 B cluster off core.Pod\n\
                    type core.Pod {apiVersion:s,!spec:@core.Spec,x:<s>,any:*,open:{*a:i}}\n\
                    type core.Spec {ports:[{!port:i,protocol:\"TCP\"|\"UDP\"};port,protocol],q:q,n:[[s]]}\n";
        let schemas = Schemas::parse(text).unwrap();
        assert_eq!(schemas.version, "v1.36.3");
        let pod = schemas.kind("v1", "Pod").unwrap();
        assert!(pod.namespaced && !pod.off);
        assert!(schemas.kind("a/v1", "B").unwrap().off);
        let root = schemas.type_of(pod.root);
        assert_eq!(root.required, ["spec".into()]);
        let spec = schemas.type_of(root.fields["spec"]);
        let What::List(Some(item)) = schemas.type_of(spec.fields["ports"]).what else { panic!("no list") };
        assert_eq!(schemas.type_of(spec.fields["ports"]).list_keys, ["port".into(), "protocol".into()]);
        let protocol = schemas.type_of(schemas.type_of(item).fields["protocol"]);
        assert_eq!(protocol.enums, [Value::from("TCP"), Value::from("UDP")]);
    }

    #[test]
    fn a_text_in_another_form_is_refused_with_its_line() {
        for (line, part) in [
            ("type a {b:", "type is missing"),
            ("type a [s", "no end"),
            ("type a @b", "begins"),
            ("type a {b:@c}", "name of no type"),
            ("type a ss", "more after"),
            ("kind v1 Pod somewhere a", "scope"),
            ("kind v1 Pod cluster a", "not there"),
            ("words", "known form"),
            (&format!("type a {}", "[".repeat(40)), "too deep"),
        ] {
            let error = Schemas::parse(&format!("{FORMAT}\n{line}\n")).unwrap_err().to_string();
            assert!(error.contains(part) && error.contains("line 2"), "{line}: {error}");
        }
    }
}
