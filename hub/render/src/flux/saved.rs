//! Results of builds as bytes, for a [`Shelf`](super::Shelf).
//!
//! The bytes are of one program and for that program only: the same build of it wrote them, so there is no version in the
//! format itself. What guards it is the head: the program's identity, the key, and a digest of everything behind.
//! Failed builds are not saved; they are made again.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use driftless_protocol::id::{Digest, UnitId};
use driftless_protocol::object::ObjectKey;
use driftless_yaml::{Entry, Kind, Limits, Map, Node, Scalar, Seq};

use super::child::OpenChild;
use super::fields::Note;
use super::rendered::{ReadSet, RenderedObject, Seen, SeenEntry, WithheldObject};
use super::unit::{Item, UnitOutput};
use super::variables::Known;
use crate::report::Code;
use crate::target::Location;
use crate::tree::ContentId;

/// Identity of the program, key, digest of the rest.
const HEAD: usize = 96;

/// A result as bytes, under a program's identity and a key.
pub(crate) fn seal(output: &UnitOutput, build: &[u8; 32], key: &[u8; 32]) -> Vec<u8> {
    let objects: usize = output.items.iter().map(|i| if let Item::Object(o) = i { o.bytes.len() } else { 0 }).sum();
    let mut out = Out(Vec::with_capacity(HEAD + objects + 256 * output.items.len() + 4096));
    out.0.resize(HEAD, 0);
    out.output(output);
    let digest = digest(build, key, &out.0[HEAD..]);
    out.0[..32].copy_from_slice(build);
    out.0[32..64].copy_from_slice(key);
    out.0[64..HEAD].copy_from_slice(&digest);
    out.0
}

/// The result in some bytes. `None`: they are another program's, for another key, or damaged.
pub(crate) fn open(bytes: &[u8], build: &[u8; 32], key: &[u8; 32]) -> Option<UnitOutput> {
    let (head, rest) = bytes.split_at_checked(HEAD)?;
    let good = head[..32] == *build && head[32..64] == *key && head[64..] == digest(build, key, rest);
    let mut input = In(rest);
    let output = good.then(|| input.output())??;
    input.0.is_empty().then_some(output)
}

fn digest(build: &[u8; 32], key: &[u8; 32], rest: &[u8]) -> [u8; 32] {
    *blake3::Hasher::new().update(build).update(key).update(rest).finalize().as_bytes()
}

struct Out(Vec<u8>);

impl Out {
    fn byte(&mut self, byte: u8) {
        self.0.push(byte);
    }

    fn number(&mut self, mut number: u64) {
        while number >= 0x80 {
            self.byte(number.to_le_bytes()[0] | 0x80);
            number >>= 7;
        }
        self.byte(number.to_le_bytes()[0]);
    }

    fn bytes(&mut self, bytes: &[u8]) {
        self.number(bytes.len() as u64);
        self.0.extend_from_slice(bytes);
    }

    fn text(&mut self, text: &str) {
        self.bytes(text.as_bytes());
    }

    fn texts(&mut self, texts: &[&str]) {
        texts.iter().for_each(|t| self.text(t));
    }

    fn list<T>(&mut self, items: impl ExactSizeIterator<Item = T>, mut write: impl FnMut(&mut Self, T)) {
        self.number(items.len() as u64);
        items.for_each(|item| write(self, item));
    }

    fn output(&mut self, output: &UnitOutput) {
        // Named field by field, so that whoever adds one decides.
        let UnitOutput {
            failed: _,
            items,
            notes,
            produced,
            references,
            controllers,
            reads,
            variables,
            total,
            late,
            open,
            unknown_child,
        } = output;
        self.list(items.iter(), Self::item);
        self.list(notes.iter(), |out, note| {
            out.texts(&[note.code.as_str(), &note.message]);
            out.place(&note.at);
        });
        self.list(produced.iter(), |out, (secret, key, known, at)| {
            out.byte(u8::from(*secret));
            out.key(key);
            out.place(at);
            match known {
                Known::Plain(data) => {
                    out.byte(0);
                    out.list(data.iter(), |out, (k, v)| out.texts(&[k, v]));
                }
                Known::Encrypted(None) => out.byte(1),
                Known::Encrypted(Some(keys)) => {
                    out.byte(3);
                    out.list(keys.iter(), |out, key| out.text(key));
                }
                Known::Elsewhere(how) => {
                    out.byte(2);
                    out.text(how);
                }
            }
        });
        self.list(references.iter(), |out, (kind, id)| out.texts(&[kind, id]));
        self.list(controllers.iter(), |out, (node, at)| {
            out.node(node);
            out.place(at);
        });
        self.list(reads.sources.iter(), |out, (source, paths)| {
            out.text(source);
            out.list(paths.iter(), |out, (path, seen)| {
                out.text(path);
                out.seen(seen);
            });
        });
        self.list(variables.iter(), |out, name| out.text(name));
        self.number(*total as u64);
        self.maybe(late.as_ref(), Self::json);
        self.list(open.iter(), |out, name| out.text(name));
        self.byte(u8::from(*unknown_child));
    }

    fn maybe<T>(&mut self, value: Option<T>, write: impl FnOnce(&mut Self, T)) {
        self.byte(u8::from(value.is_some()));
        if let Some(value) = value {
            write(self, value);
        }
    }

    /// Types of the protocol, as they travel.
    fn json(&mut self, value: &impl serde::Serialize) {
        // They are maps with text for keys: nothing in them cannot be written.
        self.bytes(&serde_json::to_vec(value).unwrap_or_default());
    }

    fn item(&mut self, item: &Item) {
        match item {
            Item::Object(o) => {
                self.byte(0);
                self.key(&o.key);
                self.text(&o.api_version);
                self.bytes(&o.bytes);
                self.0.extend_from_slice(o.digest.as_bytes());
                self.place(&o.origin);
                self.byte(u8::from(o.handed_through));
                self.maybe(Some(&o.options).filter(|options| !options.is_default()), Self::json);
                self.maybe(o.generated_name.as_deref(), Self::text);
                self.maybe(o.holes.as_ref(), |out, holes| out.list(holes.iter(), |out, name| out.text(name)));
            }
            Item::Withheld(w) => {
                self.byte(1);
                self.key(&w.key);
                self.texts(&[w.code.as_str(), &w.message]);
                self.place(&w.origin);
                self.0.extend_from_slice(w.content.as_bytes());
            }
            Item::Child { id, node, at, open } => {
                self.byte(2);
                self.texts(&[&id.namespace, &id.name]);
                self.node(node);
                self.place(at);
                match open {
                    None => self.byte(0),
                    Some(OpenChild::Held(why)) => {
                        self.byte(1);
                        self.text(why);
                    }
                    Some(OpenChild::Text(text)) => {
                        self.byte(2);
                        self.json(text);
                    }
                }
            }
            Item::Source { kind, id, node, at, object, open } => {
                self.byte(3);
                self.texts(&[kind, id]);
                self.node(node);
                self.place(at);
                self.item(object);
                self.maybe(open.as_deref(), Self::text);
            }
        }
    }

    fn key(&mut self, key: &ObjectKey) {
        self.texts(&[&key.group, &key.kind, &key.namespace, &key.name]);
    }

    fn place(&mut self, at: &Location) {
        self.texts(&[&at.source, &at.file]);
        self.number(at.line.into());
    }

    fn seen(&mut self, seen: &Seen) {
        match seen.entry {
            None => self.byte(0),
            Some(None) => self.byte(1),
            Some(Some(SeenEntry::Folder)) => self.byte(2),
            Some(Some(SeenEntry::Submodule)) => self.byte(3),
            Some(Some(SeenEntry::File(id))) => self.id(4, id),
            Some(Some(SeenEntry::Link(id))) => self.id(5, id),
        }
        match seen.listing {
            None => self.byte(0),
            Some(None) => self.byte(1),
            Some(Some(id)) => self.id(2, id),
        }
    }

    fn id(&mut self, tag: u8, id: ContentId) {
        self.byte(tag);
        self.0.extend_from_slice(&id.0);
    }

    fn node(&mut self, node: &Node) {
        match node {
            Node::Scalar(s) => {
                self.byte(0);
                self.byte(KINDS.iter().position(|k| *k == s.kind).map_or(0, |at| at.to_le_bytes()[0]));
                self.byte(u8::from(s.quoted));
                self.number(s.line.into());
                self.text(&s.text);
            }
            Node::Seq(seq) => {
                self.byte(1);
                self.number(seq.line.into());
                self.list(seq.iter(), Self::node);
            }
            Node::Map(map) => {
                self.byte(2);
                self.number(map.line.into());
                self.list(map.iter(), |out, entry| {
                    out.text(&entry.key);
                    out.number(entry.line.into());
                    out.node(&entry.value);
                });
            }
        }
    }
}

const KINDS: [Kind; 7] = [Kind::Null, Kind::Bool, Kind::Int, Kind::Float, Kind::Str, Kind::Timestamp, Kind::Binary];

struct In<'a>(&'a [u8]);

impl<'a> In<'a> {
    fn byte(&mut self) -> Option<u8> {
        let (first, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(*first)
    }

    fn flag(&mut self) -> Option<bool> {
        Some(self.byte()? != 0)
    }

    fn number(&mut self) -> Option<u64> {
        let mut number = 0u64;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            number |= u64::from(byte & 0x7F) << shift;
            if byte < 0x80 {
                return Some(number);
            }
        }
        None
    }

    fn line(&mut self) -> Option<u32> {
        self.number()?.try_into().ok()
    }

    fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(taken)
    }

    fn bytes(&mut self) -> Option<&'a [u8]> {
        let length = usize::try_from(self.number()?).ok()?;
        self.take(length)
    }

    fn text(&mut self) -> Option<&'a str> {
        std::str::from_utf8(self.bytes()?).ok()
    }

    fn owned(&mut self) -> Option<String> {
        self.text().map(str::to_owned)
    }

    fn array(&mut self) -> Option<[u8; 32]> {
        self.take(32)?.try_into().ok()
    }

    /// No list is longer than what is left has bytes.
    fn list<T, C: FromIterator<T>>(&mut self, mut read: impl FnMut(&mut Self) -> Option<T>) -> Option<C> {
        let length = self.number()?;
        if length > self.0.len() as u64 {
            return None;
        }
        (0..length).map(|_| read(self)).collect()
    }

    fn output(&mut self) -> Option<UnitOutput> {
        Some(UnitOutput {
            failed: None,
            items: self.list(Self::item)?,
            notes: self.list(|i| Some(Note { code: i.code()?, message: i.owned()?, at: i.place()? }))?,
            produced: self.list(|i| {
                let (secret, key, at) = (i.flag()?, i.key()?, i.place()?);
                let known = match i.byte()? {
                    0 => Known::Plain(i.list::<_, BTreeMap<_, _>>(|i| Some((i.owned()?, i.owned()?)))?),
                    1 => Known::Encrypted(None),
                    3 => Known::Encrypted(Some(i.list::<_, BTreeSet<_>>(|i| i.owned())?)),
                    _ => Known::Elsewhere(i.owned()?.into()),
                };
                Some((secret, key, known, at))
            })?,
            references: self.list(|i| Some((i.owned()?, i.owned()?)))?,
            controllers: self.list(|i| Some((i.node(0)?, i.place()?)))?,
            reads: Arc::new(ReadSet {
                sources: self.list(|i| {
                    let source = Arc::from(i.text()?);
                    Some((source, i.list::<_, BTreeMap<_, _>>(|i| Some((Arc::from(i.text()?), i.seen()?)))?))
                })?,
            }),
            variables: self.list::<_, BTreeSet<_>>(Self::owned)?,
            total: usize::try_from(self.number()?).ok()?,
            late: self.maybe(Self::json)?,
            open: self.list(Self::owned)?,
            unknown_child: self.flag()?,
        })
    }

    /// `None`: what was written cannot be read.
    #[allow(clippy::option_option)] // the inner one is what was kept
    fn maybe<T>(&mut self, read: impl FnOnce(&mut Self) -> Option<T>) -> Option<Option<T>> {
        Some(if self.flag()? { Some(read(self)?) } else { None })
    }

    fn json<T: serde::de::DeserializeOwned>(&mut self) -> Option<T> {
        serde_json::from_slice(self.bytes()?).ok()
    }

    fn item(&mut self) -> Option<Item> {
        Some(match self.byte()? {
            0 => Item::Object(RenderedObject {
                key: self.key()?,
                api_version: self.owned()?,
                bytes: Arc::from(self.bytes()?),
                digest: Digest::from_bytes(self.array()?),
                origin: self.place()?,
                handed_through: self.flag()?,
                options: self.maybe(Self::json)?.unwrap_or_default(),
                generated_name: self.maybe(Self::owned)?,
                holes: self.maybe(|i| i.list(Self::owned))?,
            }),
            1 => Item::Withheld(WithheldObject {
                key: self.key()?,
                code: self.code()?,
                message: self.owned()?,
                origin: self.place()?,
                content: Digest::from_bytes(self.array()?),
            }),
            2 => {
                let id = UnitId::kustomization(self.owned()?, self.owned()?);
                let (node, at) = (self.node(0)?, self.place()?);
                let open = match self.byte()? {
                    0 => None,
                    1 => Some(OpenChild::Held(self.owned()?)),
                    _ => Some(OpenChild::Text(self.json()?)),
                };
                Item::Child { id, node, at, open }
            }
            _ => Item::Source {
                kind: self.owned()?,
                id: self.owned()?,
                node: self.node(0)?,
                at: self.place()?,
                object: Box::new(self.item()?),
                open: self.maybe(Self::owned)?,
            },
        })
    }

    fn code(&mut self) -> Option<Code> {
        let name = self.text()?;
        Code::ALL.iter().copied().find(|c| c.as_str() == name)
    }

    fn key(&mut self) -> Option<ObjectKey> {
        Some(ObjectKey {
            group: self.owned()?.into(),
            kind: self.owned()?.into(),
            namespace: self.owned()?.into(),
            name: self.owned()?.into(),
        })
    }

    fn place(&mut self) -> Option<Location> {
        Some(Location { source: self.text()?.into(), file: self.text()?.into(), line: self.line()? })
    }

    fn seen(&mut self) -> Option<Seen> {
        let entry = match self.byte()? {
            0 => None,
            1 => Some(None),
            2 => Some(Some(SeenEntry::Folder)),
            3 => Some(Some(SeenEntry::Submodule)),
            4 => Some(Some(SeenEntry::File(ContentId(self.array()?)))),
            _ => Some(Some(SeenEntry::Link(ContentId(self.array()?)))),
        };
        let listing = match self.byte()? {
            0 => None,
            1 => Some(None),
            _ => Some(Some(ContentId(self.array()?))),
        };
        Some(Seen { entry, listing })
    }

    fn node(&mut self, depth: usize) -> Option<Node> {
        if depth > Limits::MAX_DEPTH {
            return None;
        }
        Some(match self.byte()? {
            0 => {
                let kind = *KINDS.get(usize::from(self.byte()?))?;
                let (quoted, line) = (self.flag()?, self.line()?);
                Node::Scalar(Scalar { text: self.text()?.into(), kind, quoted, line })
            }
            1 => {
                let line = self.line()?;
                Node::Seq(Seq::from_items(self.list(|i| i.node(depth + 1))?, line))
            }
            _ => {
                let line = self.line()?;
                let entries = self.list(|i| {
                    let (key, line) = (i.text()?.into(), i.line()?);
                    Some(Entry { key, value: i.node(depth + 1)?, line })
                })?;
                Node::Map(Map::from_entries(entries, line))
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use driftless_protocol::bundle::{Late, LateText, ObjectOptions};

    use super::*;

    fn output() -> UnitOutput {
        let at = Location { source: "s".into(), file: "f".into(), line: 300 };
        let key = ObjectKey { group: "".into(), kind: "K".into(), namespace: "n".into(), name: "é".into() };
        let node = driftless_yaml::parse_one(
            b"a: [1, '2', ~]\nb: {c: 2020-01-01}",
            driftless_yaml::Dialect::Resource,
            &Limits::default(),
        );
        let node = node.unwrap().node;
        let object = RenderedObject {
            key: key.clone(),
            api_version: "v1".into(),
            bytes: Arc::from(&b"{}"[..]),
            digest: Digest::of(b"{}"),
            origin: at.clone(),
            handed_through: true,
            options: ObjectOptions { force: true, ignore: vec!["/spec/x".to_owned()], ..ObjectOptions::default() },
            generated_name: Some("g".to_owned()),
            holes: Some(vec!["h".to_owned()]),
        };
        let withheld = WithheldObject {
            key: key.clone(),
            code: Code::Encrypted,
            message: "m".into(),
            origin: at.clone(),
            content: Digest::of(b"w"),
        };
        let seen = |entry, listing| Seen { entry, listing };
        let id = ContentId([7; 32]);
        let paths = [
            ("", seen(None, Some(Some(id)))),
            ("a", seen(Some(None), None)),
            ("b", seen(Some(Some(SeenEntry::File(id))), Some(None))),
            ("c", seen(Some(Some(SeenEntry::Link(id))), None)),
            ("d", seen(Some(Some(SeenEntry::Folder)), None)),
            ("e", seen(Some(Some(SeenEntry::Submodule)), None)),
        ];
        UnitOutput {
            failed: None,
            items: vec![
                Item::Object(object.clone()),
                Item::Withheld(withheld),
                Item::Child {
                    id: UnitId::kustomization("n", "u"),
                    node: node.clone(),
                    at: at.clone(),
                    open: Some(OpenChild::Held("o".to_owned())),
                },
                Item::Child {
                    id: UnitId::kustomization("n", "t"),
                    node: node.clone(),
                    at: at.clone(),
                    open: Some(OpenChild::Text(Box::new(LateText {
                        text: "t".to_owned(),
                        open: [("o".to_owned(), String::new())].into(),
                        rest: Digest::of(b"r"),
                        by: UnitId::kustomization("n", "u"),
                        account: None,
                        inputs: Vec::new(),
                        always: true,
                        strict: true,
                    }))),
                },
                Item::Source {
                    kind: "GitRepository".into(),
                    id: "n/s".into(),
                    node: node.clone(),
                    at: at.clone(),
                    object: Box::new(Item::Object(object)),
                    open: None,
                },
            ],
            notes: vec![Note { code: Code::BuildWarning, at: at.clone(), message: "w".into() }],
            produced: vec![
                (true, key.clone(), Known::Plain([("a".to_owned(), "b".to_owned())].into()), at.clone()),
                (false, key.clone(), Known::Encrypted(None), at.clone()),
                (true, key.clone(), Known::Encrypted(Some(["a".to_owned()].into())), at.clone()),
                (false, key, Known::Elsewhere("there".into()), at.clone()),
            ],
            references: vec![("k".into(), "i".into())],
            controllers: vec![(node, at)],
            reads: Arc::new(ReadSet {
                sources: [("s".into(), paths.into_iter().map(|(p, s)| (p.into(), s)).collect())].into(),
            }),
            variables: ["v".to_owned()].into(),
            total: 70_000,
            late: Some(Late { always: true, ..Late::default() }),
            open: BTreeSet::from(["REGION".to_owned()]),
            unknown_child: true,
        }
    }

    #[test]
    fn a_result_comes_back_as_it_was() {
        let (build, key) = ([1; 32], [2; 32]);
        let output = output();
        let bytes = seal(&output, &build, &key);
        assert_eq!(format!("{:?}", open(&bytes, &build, &key).unwrap()), format!("{output:?}"));
    }

    #[test]
    fn nothing_else_is_believed() {
        let (build, key) = ([1; 32], [2; 32]);
        let bytes = seal(&output(), &build, &key);
        assert!(open(&bytes, &[9; 32], &key).is_none(), "another program's");
        assert!(open(&bytes, &build, &[9; 32]).is_none(), "for another key");
        for end in 0..bytes.len() {
            assert!(open(&bytes[..end], &build, &key).is_none(), "cut at {end}");
        }
        for at in 0..bytes.len() {
            let mut damaged = bytes.clone();
            damaged[at] ^= 1;
            assert!(open(&damaged, &build, &key).is_none(), "a bit turned at {at}");
        }
        // Also where the digest is right, reading ends in an answer.
        for at in HEAD..bytes.len() {
            let mut damaged = bytes.clone();
            damaged[at] ^= 0xFF;
            let digest = digest(&build, &key, &damaged[HEAD..]);
            damaged[64..HEAD].copy_from_slice(&digest);
            drop(open(&damaged, &build, &key));
        }
    }
}
