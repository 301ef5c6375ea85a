//! Image names, tags and digests.

use super::Image;
use super::fieldspec::{Create, FieldSpec, any, fills_null, rewrite, visit, wrong_shape};
use super::res::{Made, Objects, split_api};
use driftless_yaml::{KeySet, Node, Scalar};
use regex::Regex;
use std::sync::LazyLock;

/// Where a transformer failed: the entry of `images`, the object, and why.
pub(crate) type Failure = (usize, usize, String);

/// Rewrites images by every entry in turn: first every `image` in a list under a key `containers` or `initContainers`,
/// wherever that is, then the fields that the specs name. CustomResourceDefinitions are left alone.
pub(crate) fn set_images(objects: &mut Objects, images: &[&Image], specs: &[FieldSpec]) -> Result<(), Failure> {
    let matchers: Vec<Matcher<'_>> = images.iter().map(|image| Matcher::new(&image.name)).collect();
    let mut made = objects.made();
    for (at, res) in objects.iter_mut_same_id().enumerate() {
        let kind = res.kind();
        if &*kind == "CustomResourceDefinition" {
            continue;
        }
        let api = res.api();
        let (group, version) = split_api(&api);
        let own: Vec<&FieldSpec> = specs.iter().filter(|spec| spec.matches(group, version, &kind)).collect();
        // Looked for before anything is touched, for all entries at once: most objects have none of these images.
        let fields_meet = |node: &Node, spec: &FieldSpec, matchers: &[Matcher<'_>]| {
            let path = spec.path.parts();
            any(node, path, &mut |value| is_image_due(value, matchers)) || fills_null(node, path)
        };
        if !meets(&res.node, &matchers) && !own.iter().any(|spec| fields_meet(&res.node, spec, &matchers)) {
            continue;
        }
        for (entry, (image, matcher)) in images.iter().zip(&matchers).enumerate() {
            let only = std::slice::from_ref(matcher);
            if meets(&res.node, only) {
                walk(&mut res.node, matcher, image, &mut made).map_err(|why| (entry, at, why))?;
            }
            for spec in &own {
                if !fields_meet(&res.node, spec, only) {
                    continue;
                }
                visit(&mut res.node, spec.path.parts(), Create::Nothing, &mut |node| match node {
                    Node::Scalar(s) => update(s, matcher, image, &mut made),
                    other => Err(wrong_shape(other, "the name of an image")),
                })
                .map_err(|why| (entry, at, format!("field {}: {why}", spec.path)))?;
            }
        }
    }
    objects.set_made(made);
    Ok(())
}

/// Whether a walk would change something or trip over it: most objects have no such image, and stay shared.
fn meets(node: &Node, matchers: &[Matcher<'_>]) -> bool {
    if !node.keys().may_meet(*CONTAINER_KEYS) {
        return false;
    }
    match node {
        Node::Map(map) => map.iter().any(|entry| {
            (is_container_key(&entry.key)
                && entry.value.as_seq().is_some_and(|list| list.iter().any(|c| is_due(c, matchers))))
                || meets(&entry.value, matchers)
        }),
        Node::Seq(seq) => seq.iter().any(|item| meets(item, matchers)),
        Node::Scalar(_) => false,
    }
}

/// Whether an item of a list of containers has an image to change, or is none.
fn is_due(container: &Node, matchers: &[Matcher<'_>]) -> bool {
    match container {
        Node::Map(map) => map.get("image").is_some_and(|image| is_image_due(image, matchers)),
        other => !other.is_null(),
    }
}

fn is_image_due(image: &Node, matchers: &[Matcher<'_>]) -> bool {
    match image {
        Node::Scalar(s) => matchers.iter().any(|matcher| matcher.is_match(&s.text).unwrap_or(true)),
        _ => true,
    }
}

/// The keys of lists of containers.
const CONTAINERS: [&str; 2] = ["containers", "initContainers"];

static CONTAINER_KEYS: LazyLock<KeySet> = LazyLock::new(|| KeySet::of(&CONTAINERS));

fn is_container_key(key: &str) -> bool {
    CONTAINERS.contains(&key)
}

fn walk(node: &mut Node, matcher: &Matcher<'_>, image: &Image, made: &mut Made) -> Result<(), String> {
    let only = std::slice::from_ref(matcher);
    match node {
        Node::Map(map) => {
            for entry in map.entries_mut() {
                if meets(&entry.value, only) {
                    walk(&mut entry.value, matcher, image, made)?;
                }
                if is_container_key(&entry.key)
                    && let Node::Seq(list) = &mut entry.value
                    && list.iter().any(|container| is_due(container, only))
                {
                    for container in list.items_mut() {
                        match container {
                            Node::Map(map) => match map.get_mut("image") {
                                Some(Node::Scalar(s)) => update(s, matcher, image, made)?,
                                Some(other) => return Err(wrong_shape(other, "the name of an image")),
                                None => {}
                            },
                            other if other.is_null() => {}
                            other => return Err(wrong_shape(other, "a container")),
                        }
                    }
                }
            }
            Ok(())
        }
        Node::Seq(seq) => {
            for item in seq.items_mut() {
                if meets(item, only) {
                    walk(item, matcher, image, made)?;
                }
            }
            Ok(())
        }
        Node::Scalar(_) => Ok(()),
    }
}

/// Which image references an entry is for. The name goes into an expression as it is: the real program does not escape it.
enum Matcher<'i> {
    /// No sign but a dot, which stands for any character: nearly every name. An expression need not be compiled for it.
    Plain(&'i str),
    Expression(Regex),
    /// No expression: an error only where there is an image to compare.
    Broken(&'i str),
}

impl<'i> Matcher<'i> {
    fn new(name: &'i str) -> Self {
        if name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'/' | b'-' | b'_' | b':')) {
            return Self::Plain(name);
        }
        let pattern = format!("^{name}(:[a-zA-Z0-9_.{{}}-]*)?(@sha256:[a-zA-Z0-9_.{{}}-]*)?$");
        super::selector::regex(&pattern).map_or(Self::Broken(name), Self::Expression)
    }

    fn is_match(&self, text: &str) -> Result<bool, String> {
        match self {
            Self::Broken(name) => Err(format!("name {name:?} is no regular expression")),
            Self::Expression(regex) => Ok(regex.is_match(text)),
            Self::Plain(name) => {
                let mut rest = text.chars();
                let fits = |n: char| rest.next().is_some_and(|c| c == n || (n == '.' && c != '\n'));
                Ok(name.chars().all(fits) && is_tag_and_digest(rest.as_str()))
            }
        }
    }
}

/// `(:[a-zA-Z0-9_.{}-]*)?(@sha256:[a-zA-Z0-9_.{}-]*)?`, whole.
fn is_tag_and_digest(text: &str) -> bool {
    let word =
        |text: &str| text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'{' | b'}' | b'-'));
    let (tag, digest) = match text.split_once("@sha256:") {
        Some((tag, digest)) => (tag, Some(digest)),
        None => (text, None),
    };
    (tag.is_empty() || tag.strip_prefix(':').is_some_and(word)) && digest.is_none_or(word)
}

fn update(scalar: &mut Scalar, matcher: &Matcher<'_>, image: &Image, made: &mut Made) -> Result<(), String> {
    if !matcher.is_match(&scalar.text)? {
        return Ok(());
    }
    let (name, tag, digest) = split(&scalar.text);
    let name = if image.new_name.is_empty() { name } else { &image.new_name };
    let (tag, digest) = match (image.new_tag.is_empty(), image.digest.is_empty(), image.tag_suffix.is_empty()) {
        (false, false, _) => (image.new_tag.clone(), image.digest.as_str()),
        (false, true, _) => (image.new_tag.clone(), ""),
        (true, false, _) => (String::new(), image.digest.as_str()),
        (true, true, false) => (format!("{tag}{}", image.tag_suffix), ""),
        (true, true, true) => (tag.to_owned(), digest),
    };
    let mut out = name.to_owned();
    if !tag.is_empty() {
        out.push(':');
        out.push_str(&tag);
    }
    if !digest.is_empty() {
        out.push('@');
        out.push_str(digest);
    }
    if out != *scalar.text {
        made.text(out.len())?;
        rewrite(scalar, out);
    }
    Ok(())
}

/// Name, tag and digest of an image reference. A `:` before the first `/` belongs to a port.
pub(crate) fn split(image: &str) -> (&str, &str, &str) {
    let start = match image.find('/') {
        Some(at) if at > 0 => at,
        _ => 0,
    };
    let search = &image[start..];
    let colon = search.find(':').map(|i| i + start);
    let at = search.find('@').map(|i| i + start);
    match (colon, at) {
        (None, None) => (image, "", ""),
        (Some(c), Some(a)) if c < a => (&image[..c], &image[c + 1..a], &image[a + 1..]),
        (_, Some(a)) => (&image[..a], "", &image[a + 1..]),
        (Some(c), None) => (&image[..c], &image[c + 1..], ""),
    }
}

#[cfg(test)]
mod tests {
    use super::{Matcher, split};

    #[test]
    fn plain_names_match_as_expressions_do() {
        let names = ["nginx", "reg.example.org:5000/a-b/c_d", ".", "a.b", ""];
        let ends = [
            "",
            ":1",
            ":",
            "@sha256:ab",
            ":1@sha256:ab",
            ":1@sha256:",
            "x",
            ":a:b",
            ":1/x",
            "@md5:a",
            ":1\n",
            "\n",
            ":é",
        ];
        let texts =
            names.iter().flat_map(|n| ends.iter().map(move |e| format!("{n}{e}"))).chain(["aXb:1".into(), "é".into()]);
        for text in texts {
            for name in names {
                let pattern = format!("^{name}(:[a-zA-Z0-9_.{{}}-]*)?(@sha256:[a-zA-Z0-9_.{{}}-]*)?$");
                let expected = regex::Regex::new(&pattern).unwrap().is_match(&text);
                let plain = Matcher::new(name);
                assert!(matches!(plain, Matcher::Plain(_)));
                assert_eq!(plain.is_match(&text), Ok(expected), "{name:?} on {text:?}");
            }
        }
    }

    /// Objects without the image are not copied; a null list of containers becomes an empty one in any case.
    #[test]
    fn objects_without_the_image_stay_shared() {
        use super::super::config::defaults;
        use super::super::error::Origin;
        use super::super::res::{Objects, Res};
        use driftless_yaml::{Dialect, Limits, Node, parse_one};
        let node = |spec: &str| {
            let text = format!("apiVersion: v1\nkind: Pod\nmetadata: {{name: p}}\nspec: {spec}\n");
            parse_one(text.as_bytes(), Dialect::Resource, &Limits::default()).unwrap().node
        };
        let entry = |node: &Node| node.as_map().and_then(|m| m.entry("spec")).map(std::ptr::from_ref);
        let images = [
            super::Image { name: "a".into(), new_tag: "2".into(), ..super::Image::default() },
            super::Image { name: "b".into(), new_name: "a".into(), ..super::Image::default() },
            super::Image { name: "a".into(), new_tag: "3".into(), ..super::Image::default() },
        ];
        for (spec, expected) in [
            ("{containers: [{image: c}], volumes: [{image: {reference: d}}]}", None),
            ("{containers: [{image: a:1}, {image: c}]}", Some("containers:\n- image: a:3\n- image: c\n")),
            ("{containers: [{image: b:1}]}", Some("containers:\n- image: a:3\n")),
            ("{volumes: [{image: {reference: a:1}}]}", Some("volumes:\n- image:\n    reference: a:3\n")),
            ("{containers: null}", Some("containers: []\n")),
        ] {
            let given = node(spec);
            let mut objects = Objects::new(1 << 20);
            objects.push(Res::new(given.clone(), Origin::new("f", 1))).unwrap();
            super::set_images(&mut objects, &images.each_ref(), &defaults().images).unwrap();
            let after = &objects.get(0).node;
            match expected {
                None => assert_eq!(entry(after), entry(&given), "{spec}: a copy was made"),
                Some(text) => {
                    let spec_after = after.at(&["spec"]).unwrap();
                    assert_eq!(driftless_yaml::to_string(spec_after).unwrap(), text, "{spec}");
                }
            }
        }
    }

    #[test]
    fn references_split() {
        for (image, parts) in [
            ("nginx", ("nginx", "", "")),
            ("nginx:1", ("nginx", "1", "")),
            ("host:5000/nginx", ("host:5000/nginx", "", "")),
            ("host:5000/nginx:1", ("host:5000/nginx", "1", "")),
            ("nginx@sha256:ab", ("nginx", "", "sha256:ab")),
            ("nginx:1@sha256:ab", ("nginx", "1", "sha256:ab")),
        ] {
            assert_eq!(split(image), parts, "{image}");
        }
    }
}
