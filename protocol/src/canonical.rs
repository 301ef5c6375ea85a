//! Canonical JSON: one value, one sequence of bytes.
//!
//! UTF-8, keys sorted bytewise, no white space, minimal escapes, integers as i64/u64, integral floats in that range as
//! integers, other numbers as RFC 8785 writes them, nulls kept, duplicate keys refused (decisions.md, "Bytes").

use serde::de::{DeserializeOwned, Deserializer, MapAccess, SeqAccess, Visitor};
use serde::ser::Serialize;
use serde_json::{Map, Number, Value};

/// How deep a value may nest. Kubernetes objects stay far below; the API server's own limit is 10,000.
pub const MAX_DEPTH: usize = 128;

/// Why bytes are not canonical JSON of the expected shape, or a value has no canonical form.
#[derive(Debug, thiserror::Error)]
pub enum CanonicalError {
    /// Not JSON, too deep, a duplicate key, or not the expected shape.
    #[error("not the expected JSON: {0}")]
    Shape(String),
    /// JSON, but not in canonical form: a signer never writes it so.
    #[error("not in canonical form")]
    NotCanonical,
    /// The value cannot be written as JSON.
    #[error("has no JSON form: {0}")]
    Unrepresentable(String),
}

/// The canonical bytes of anything serialisable.
pub fn to_vec<T: Serialize>(value: &T) -> Result<Vec<u8>, CanonicalError> {
    let value = serde_json::to_value(value).map_err(|e| CanonicalError::Unrepresentable(e.to_string()))?;
    Ok(value_to_vec(&value))
}

/// The canonical bytes of a JSON value.
#[must_use]
pub fn value_to_vec(value: &Value) -> Vec<u8> {
    let mut out = Vec::with_capacity(256);
    write(value, &mut out);
    out
}

/// Parses bytes that must be canonical already: anything a signer would have written otherwise is refused.
pub fn from_slice<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, CanonicalError> {
    let value = parse(bytes)?;
    if value_to_vec(&value) != bytes {
        return Err(CanonicalError::NotCanonical);
    }
    serde_json::from_value(value).map_err(|e| CanonicalError::Shape(e.to_string()))
}

/// Parses any JSON, refusing duplicate keys and depth beyond [`MAX_DEPTH`].
pub fn parse(bytes: &[u8]) -> Result<Value, CanonicalError> {
    let mut de = serde_json::Deserializer::from_slice(bytes);
    let value = serde::de::DeserializeSeed::deserialize(Strict { depth: 0 }, &mut de)
        .map_err(|e| CanonicalError::Shape(e.to_string()))?;
    de.end().map_err(|e| CanonicalError::Shape(e.to_string()))?;
    Ok(value)
}

fn write(value: &Value, out: &mut Vec<u8>) {
    match value {
        Value::Null => out.extend_from_slice(b"null"),
        Value::Bool(true) => out.extend_from_slice(b"true"),
        Value::Bool(false) => out.extend_from_slice(b"false"),
        Value::Number(n) => write_number(n, out),
        Value::String(s) => write_string(s, out),
        Value::Array(items) => {
            out.push(b'[');
            for (i, item) in items.iter().enumerate() {
                if i > 0 {
                    out.push(b',');
                }
                write(item, out);
            }
            out.push(b']');
        }
        Value::Object(map) => {
            // serde_json's map is a BTreeMap here, sorted bytewise; a test fails should `preserve_order` ever creep in.
            out.push(b'{');
            for (i, (key, item)) in map.iter().enumerate() {
                if i > 0 {
                    out.push(b',');
                }
                write_string(key, out);
                out.push(b':');
                write(item, out);
            }
            out.push(b'}');
        }
    }
}

/// Writes a string with the fewest escapes: `"` and `\`, the five short ones, other controls as `\u00xx`.
pub fn write_string(text: &str, out: &mut Vec<u8>) {
    out.push(b'"');
    for &b in text.as_bytes() {
        match b {
            b'"' => out.extend_from_slice(b"\\\""),
            b'\\' => out.extend_from_slice(b"\\\\"),
            0x08 => out.extend_from_slice(b"\\b"),
            0x0c => out.extend_from_slice(b"\\f"),
            b'\n' => out.extend_from_slice(b"\\n"),
            b'\r' => out.extend_from_slice(b"\\r"),
            b'\t' => out.extend_from_slice(b"\\t"),
            0..=0x1f => {
                const DIGITS: &[u8; 16] = b"0123456789abcdef";
                out.extend_from_slice(b"\\u00");
                out.push(DIGITS[usize::from(b >> 4)]);
                out.push(DIGITS[usize::from(b & 15)]);
            }
            _ => out.push(b),
        }
    }
    out.push(b'"');
}

fn write_number(n: &Number, out: &mut Vec<u8>) {
    if let Some(i) = n.as_i64() {
        out.extend_from_slice(i.to_string().as_bytes());
    } else if let Some(u) = n.as_u64() {
        out.extend_from_slice(u.to_string().as_bytes());
    } else if let Some(f) = n.as_f64() {
        write_f64(f, out);
    }
}

/// Writes a finite float: as an integer when it is one and fits i64 or u64, else as RFC 8785 (ECMAScript) does.
pub fn write_f64(f: f64, out: &mut Vec<u8>) {
    // 2^63 and 2^64 are exact as f64; the comparisons keep the casts below exact.
    if f.fract() == 0.0 && (-9_223_372_036_854_775_808.0..9_223_372_036_854_775_808.0).contains(&f) {
        #[allow(clippy::cast_possible_truncation)] // in range and integral by the line above
        out.extend_from_slice((f as i64).to_string().as_bytes());
        return;
    }
    if f.fract() == 0.0 && f > 0.0 && f < 18_446_744_073_709_551_616.0 {
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // in range and integral by the line above
        out.extend_from_slice((f as u64).to_string().as_bytes());
        return;
    }
    // Shortest digits that read back: Rust's `{:e}` gives them; ECMAScript only places the point differently.
    let text = format!("{f:e}");
    let (mantissa, exponent) = text.split_once('e').unwrap_or((&text, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    let (sign, mantissa) = mantissa.strip_prefix('-').map_or(("", mantissa), |m| ("-", m));
    let digits: String = mantissa.chars().filter(|c| *c != '.').collect();
    let count = i32::try_from(digits.len()).unwrap_or(i32::MAX);
    let point = exponent + 1;
    out.extend_from_slice(sign.as_bytes());
    let body = if count <= point && point <= 21 {
        let zeros = usize::try_from(point - count).unwrap_or(0);
        format!("{digits}{}", "0".repeat(zeros))
    } else if 0 < point && point <= 21 {
        let at = usize::try_from(point).unwrap_or(0);
        format!("{}.{}", &digits[..at], &digits[at..])
    } else if -6 < point && point <= 0 {
        let zeros = usize::try_from(-point).unwrap_or(0);
        format!("0.{}{digits}", "0".repeat(zeros))
    } else {
        let sign = if exponent < 0 { '-' } else { '+' };
        let exponent = exponent.unsigned_abs();
        if count == 1 {
            format!("{digits}e{sign}{exponent}")
        } else {
            format!("{}.{}e{sign}{exponent}", &digits[..1], &digits[1..])
        }
    };
    out.extend_from_slice(body.as_bytes());
}

struct Strict {
    depth: usize,
}

impl<'de> serde::de::DeserializeSeed<'de> for Strict {
    type Value = Value;
    fn deserialize<D: Deserializer<'de>>(self, d: D) -> Result<Value, D::Error> {
        d.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Strict {
    type Value = Value;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("JSON")
    }
    fn visit_bool<E>(self, v: bool) -> Result<Value, E> {
        Ok(Value::Bool(v))
    }
    fn visit_i64<E>(self, v: i64) -> Result<Value, E> {
        Ok(Value::Number(v.into()))
    }
    fn visit_u64<E>(self, v: u64) -> Result<Value, E> {
        Ok(Value::Number(v.into()))
    }
    fn visit_f64<E: serde::de::Error>(self, v: f64) -> Result<Value, E> {
        Number::from_f64(v).map(Value::Number).ok_or_else(|| E::custom("a number is not finite"))
    }
    fn visit_str<E>(self, v: &str) -> Result<Value, E> {
        Ok(Value::String(v.to_owned()))
    }
    fn visit_string<E>(self, v: String) -> Result<Value, E> {
        Ok(Value::String(v))
    }
    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }
    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Value, A::Error> {
        let depth = self.deeper()?;
        let mut items = Vec::new();
        while let Some(item) = seq.next_element_seed(Strict { depth })? {
            items.push(item);
        }
        Ok(Value::Array(items))
    }
    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Value, A::Error> {
        let depth = self.deeper()?;
        let mut map = Map::new();
        while let Some(key) = access.next_key::<String>()? {
            if map.contains_key(&key) {
                return Err(serde::de::Error::custom(format_args!("the key {key:?} appears twice")));
            }
            let value = access.next_value_seed(Strict { depth })?;
            map.insert(key, value);
        }
        Ok(Value::Object(map))
    }
}

impl Strict {
    fn deeper<E: serde::de::Error>(&self) -> Result<usize, E> {
        if self.depth >= MAX_DEPTH {
            return Err(E::custom(format_args!("nested deeper than {MAX_DEPTH} levels")));
        }
        Ok(self.depth + 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn keys_are_sorted_bytewise() {
        assert_eq!(value_to_vec(&json!({"b": 1, "a": 2, "B": 3, "aa": 4})), br#"{"B":3,"a":2,"aa":4,"b":1}"#);
        assert_eq!(to_vec(&serde_json::from_str::<Value>(r#"{"b":1,"a":2}"#).unwrap()).unwrap(), br#"{"a":2,"b":1}"#);
    }

    #[test]
    fn numbers_are_written_one_way() {
        for (given, expected) in [
            ("1", "1"),
            ("-0", "0"),
            ("1.0", "1"),
            ("1e3", "1000"),
            ("1.5", "1.5"),
            ("18446744073709551615", "18446744073709551615"),
            ("-9223372036854775808", "-9223372036854775808"),
            ("1e21", "1e+21"),
            ("123456789012345678901234567890", "1.2345678901234568e+29"),
            ("100000000000000000000", "100000000000000000000"),
            ("1e-6", "0.000001"),
            ("1e-7", "1e-7"),
            ("1.25e-9", "1.25e-9"),
            ("0.1", "0.1"),
            ("-0.5", "-0.5"),
        ] {
            let value = parse(given.as_bytes()).unwrap();
            assert_eq!(String::from_utf8(value_to_vec(&value)).unwrap(), expected, "of {given}");
        }
    }

    #[test]
    fn escapes_are_minimal() {
        assert_eq!(value_to_vec(&json!("a\"\\\n\u{1}é/\u{7f}")), "\"a\\\"\\\\\\n\\u0001é/\u{7f}\"".as_bytes());
    }

    #[test]
    fn duplicates_depth_and_trailing_bytes_are_refused() {
        assert!(parse(br#"{"a":1,"a":2}"#).unwrap_err().to_string().contains("twice"));
        assert!(parse(b"{} x").is_err());
        let nested = |n: usize| format!("{}{}", "[".repeat(n), "]".repeat(n));
        assert!(parse(nested(MAX_DEPTH - 1).as_bytes()).is_ok());
        assert!(parse(nested(MAX_DEPTH + 1).as_bytes()).is_err());
    }

    #[test]
    fn only_canonical_bytes_are_read_back() {
        assert!(from_slice::<Value>(br#"{"a":1}"#).is_ok());
        for other in [&br#"{"a": 1}"#[..], br#"{"b":1,"a":1}"#, br#"{"a":1.0}"#, br#""\u0041""#] {
            assert!(matches!(from_slice::<Value>(other), Err(CanonicalError::NotCanonical)), "{other:?}");
        }
    }
}
