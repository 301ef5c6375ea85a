//! Kustomize's content hash: the suffix of a generated ConfigMap's or Secret's name.
//!
//! The hash is SHA-256 over the JSON that Go writes of some of the object's fields; of its ten first hexadecimal digits
//! five are replaced by letters that make no words. The name is part of the JSON but always empty there (kustomize looks
//! it up under a path that does not exist), so equal content gives equal suffixes.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use sha2::{Digest, Sha256};

/// The suffix of a ConfigMap with this content, without the dash. `None` stands for a field that is absent, which is not
/// the same as an empty one: a ConfigMap generated from nothing has no `data`, a Secret has `data: {}`.
#[must_use]
pub fn content_hash_configmap<D, B>(data: Option<&BTreeMap<D, D>>, binary_data: Option<&BTreeMap<B, B>>) -> String
where
    D: AsRef<str>,
    B: AsRef<str>,
{
    let mut json = Json::new();
    if binary_data.is_some() {
        json.field("binaryData").map(binary_data);
    }
    json.field("data").map(data);
    json.field("kind").text("ConfigMap");
    json.field("name").text("");
    json.hash()
}

/// The suffix of a Secret with this content, without the dash. `data` holds base64 as it stands in the object, line
/// breaks included. `None` stands for a field that is absent, see [`content_hash_configmap`].
#[must_use]
pub fn content_hash_secret<D, S>(
    kind: &str,
    data: Option<&BTreeMap<D, D>>,
    string_data: Option<&BTreeMap<S, S>>,
) -> String
where
    D: AsRef<str>,
    S: AsRef<str>,
{
    let mut json = Json::new();
    json.field("data").map(data);
    json.field("kind").text("Secret");
    json.field("name").text("");
    if string_data.is_some() {
        json.field("stringData").map(string_data);
    }
    json.field("type").text(kind);
    json.hash()
}

/// JSON as Go's encoder writes it.
struct Json(String);

impl Json {
    fn new() -> Self {
        Self("{".to_owned())
    }

    fn field(&mut self, name: &str) -> &mut Self {
        if self.0.len() > 1 {
            self.0.push(',');
        }
        self.text(name);
        self.0.push(':');
        self
    }

    /// An absent field is hashed as the empty text.
    fn map<S: AsRef<str>>(&mut self, map: Option<&BTreeMap<S, S>>) {
        let Some(map) = map else { return self.text("") };
        // By bytes, whatever the order of the key's type.
        let mut entries: Vec<_> = map.iter().map(|(k, v)| (k.as_ref(), v.as_ref())).collect();
        entries.sort_unstable();
        self.0.push('{');
        for (n, (key, value)) in entries.into_iter().enumerate() {
            if n > 0 {
                self.0.push(',');
            }
            self.text(key);
            self.0.push(':');
            self.text(value);
        }
        self.0.push('}');
    }

    fn text(&mut self, text: &str) {
        self.0.push('"');
        for c in text.chars() {
            match c {
                '"' => self.0.push_str("\\\""),
                '\\' => self.0.push_str("\\\\"),
                '\n' => self.0.push_str("\\n"),
                '\r' => self.0.push_str("\\r"),
                '\t' => self.0.push_str("\\t"),
                '\u{8}' => self.0.push_str("\\b"),
                '\u{C}' => self.0.push_str("\\f"),
                '\0'..' ' | '<' | '>' | '&' | '\u{2028}' | '\u{2029}' => {
                    _ = write!(self.0, "\\u{:04x}", u32::from(c));
                }
                c => self.0.push(c),
            }
        }
        self.0.push('"');
    }

    fn hash(mut self) -> String {
        self.0.push('}');
        let digest = Sha256::digest(self.0.as_bytes());
        let mut hex = String::with_capacity(10);
        for byte in digest.iter().take(5) {
            _ = write!(hex, "{byte:02x}");
        }
        hex.chars()
            .map(|c| match c {
                '0' => 'g',
                '1' => 'h',
                '3' => 'k',
                'a' => 'm',
                'e' => 't',
                c => c,
            })
            .collect()
    }
}
