//! Numbers as go-yaml reads them, and the three ways they are written.

use std::fmt::Write as _;

/// The value of a scalar of kind integer or float.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Number {
    /// Fits an `i64`.
    Int(i64),
    /// Above `i64::MAX`, fits a `u64`.
    Uint(u64),
    /// Everything else, infinities and NaN included.
    Float(f64),
}

/// How octals after `0o` may carry a sign of their own; go-yaml v3 has that, v2 has not.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Octal {
    Signed,
    Plain,
}

/// An integer: decimal, `0x`, `0b`, `0o` or a leading 0 for octal; underscores anywhere but in front.
///
/// Source: go-yaml `resolve.go`, over Go's `strconv.ParseInt` with base 0.
pub(crate) fn parse_int(text: &str, octal: Octal) -> Option<Number> {
    let plain = without_underscores(text);
    if let Some(n) = parse_base_zero(&plain) {
        return Some(n);
    }
    // `0b-101` is -5: the digits after the prefix are read again as a signed number.
    if let Some(rest) = plain.strip_prefix("0b") {
        return parse_signed(rest, 2);
    }
    if octal == Octal::Signed
        && let Some(rest) = plain.strip_prefix("0o")
    {
        return parse_signed(rest, 8);
    }
    None
}

/// A decimal float: `1.5`, `.5`, `1e3`; never one too large for an `f64`, which go-yaml leaves as text.
pub(crate) fn parse_float(text: &str) -> Option<f64> {
    let plain = without_underscores(text);
    if !looks_float(plain.as_bytes()) {
        return None;
    }
    plain.parse().ok().filter(|f: &f64| f.is_finite())
}

/// A text that starts with a dot: Go's own float parser reads it, with underscores between digits only.
pub(crate) fn parse_dot_float(text: &str) -> Option<f64> {
    let between_digits = text.as_bytes().split(|b| *b == b'_').collect::<Vec<_>>();
    let last = between_digits.len() - 1;
    let fits = |(n, part): (usize, &&[u8])| {
        (n == 0 || part.first().is_some_and(u8::is_ascii_digit))
            && (n == last || part.last().is_some_and(u8::is_ascii_digit))
    };
    if !between_digits.iter().enumerate().all(fits) {
        return None;
    }
    parse_float(text)
}

fn without_underscores(text: &str) -> std::borrow::Cow<'_, str> {
    if text.contains('_') { text.replace('_', "").into() } else { text.into() }
}

/// `[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?`
fn looks_float(text: &[u8]) -> bool {
    fn digits(text: &[u8]) -> (usize, &[u8]) {
        let n = text.iter().take_while(|b| b.is_ascii_digit()).count();
        (n, &text[n..])
    }
    let rest = match text {
        [b'+' | b'-', rest @ ..] => rest,
        all => all,
    };
    let (whole, mut rest) = digits(rest);
    if let [b'.', after @ ..] = rest {
        let (fraction, after) = digits(after);
        if whole + fraction == 0 {
            return false;
        }
        rest = after;
    } else if whole == 0 {
        return false;
    }
    match rest {
        [] => true,
        [b'e' | b'E', rest @ ..] => {
            let rest = match rest {
                [b'+' | b'-', rest @ ..] => rest,
                all => all,
            };
            let (n, rest) = digits(rest);
            n > 0 && rest.is_empty()
        }
        _ => false,
    }
}

fn parse_base_zero(text: &str) -> Option<Number> {
    let (sign, digits) = match text.as_bytes() {
        [b'-', ..] => ("-", &text[1..]),
        [b'+', ..] => ("+", &text[1..]),
        _ => ("", text),
    };
    let (base, digits) = match digits.as_bytes() {
        [b'0'] => (10, digits),
        [b'0', b'x' | b'X', _, ..] => (16, &digits[2..]),
        [b'0', b'b' | b'B', _, ..] => (2, &digits[2..]),
        [b'0', b'o' | b'O', _, ..] => (8, &digits[2..]),
        [b'0', ..] => (8, &digits[1..]),
        _ => (10, digits),
    };
    if digits.is_empty() || !digits.bytes().all(|b| (b as char).is_digit(base)) {
        return None;
    }
    match (u64::from_str_radix(digits, base).ok()?, sign) {
        (n, "-") => 0i64.checked_sub_unsigned(n).map(Number::Int),
        // A sign makes it an `i64` or nothing: Go's unsigned parser takes none.
        (n, "+") => i64::try_from(n).ok().map(Number::Int),
        (n, _) => Some(from_u64(n)),
    }
}

fn parse_signed(text: &str, base: u32) -> Option<Number> {
    match text.as_bytes() {
        [b'-' | b'+', rest @ ..] if rest.first().is_some_and(u8::is_ascii_digit) => {
            i64::from_str_radix(text, base).ok().map(Number::Int)
        }
        _ => None,
    }
}

fn from_u64(n: u64) -> Number {
    i64::try_from(n).map_or(Number::Uint(n), Number::Int)
}

impl Number {
    /// The same number as an integer when it is a whole one within `i64` or `u64`.
    ///
    /// Of a float beyond 2^53 these are the fewest digits that name it, followed by zeros, as both Go and RFC 8785 write
    /// it: not every digit of its exact value.
    #[must_use]
    pub fn whole(self) -> Self {
        let Self::Float(f) = self else { return self };
        if f.fract() != 0.0 || f.abs() >= 1e20 {
            return self;
        }
        let mut text = String::new();
        Digits::of(f).positional(&mut text);
        match (text.parse(), text.parse()) {
            (Ok(n), _) => Self::Int(n),
            (_, Ok(n)) => Self::Uint(n),
            _ => self,
        }
    }

    /// As canonical JSON writes it: whole numbers within 64 bits as integers, all others as RFC 8785 does (the shortest
    /// digits, an exponent below 1e-6 and from 1e21). Nothing is written for infinities and NaN: `false`.
    pub(crate) fn write_json(self, out: &mut Vec<u8>) -> bool {
        let mut text = String::new();
        match self.whole() {
            Self::Int(n) => _ = write!(text, "{n}"),
            Self::Uint(n) => _ = write!(text, "{n}"),
            Self::Float(f) if !f.is_finite() => return false,
            Self::Float(f) => {
                let d = Digits::of(f);
                if (-6..21).contains(&d.exponent) {
                    d.positional(&mut text);
                } else {
                    d.scientific(&mut text, 1);
                }
            }
        }
        out.extend_from_slice(text.as_bytes());
        true
    }

    /// As kustomize prints it: through JSON, then go-yaml v2. `None` for infinities and NaN.
    pub(crate) fn to_yaml(self) -> Option<String> {
        let mut text = String::new();
        match self.whole() {
            Self::Int(n) => _ = write!(text, "{n}"),
            Self::Uint(n) => _ = write!(text, "{n}"),
            Self::Float(f) if !f.is_finite() => return None,
            Self::Float(f) => {
                // Go's `%g` with the fewest digits: an exponent below 1e-4 and from 1e6, of two digits at least.
                let d = Digits::of(f);
                if (-4..6).contains(&d.exponent) {
                    d.positional(&mut text);
                } else {
                    d.scientific(&mut text, 2);
                }
            }
        }
        Some(text)
    }

    /// As sigs.k8s.io/yaml writes a float key: `%g` with the fewest digits of a 32-bit float.
    pub(crate) fn to_key(self) -> Option<String> {
        match self {
            Self::Int(n) => Some(n.to_string()),
            // The library knows no unsigned key.
            Self::Uint(_) => None,
            Self::Float(f) if f.is_nan() => Some(".nan".into()),
            Self::Float(f) => {
                let f = f as f32;
                if f.is_infinite() {
                    return Some(if f > 0.0 { ".inf" } else { "-.inf" }.into());
                }
                let d = Digits::parse(&format!("{f:e}"));
                let mut text = String::new();
                if (-4..6).contains(&d.exponent) {
                    d.positional(&mut text);
                } else {
                    d.scientific(&mut text, 2);
                }
                Some(text)
            }
        }
    }
}

/// The fewest decimal digits that read back as the same number, and where the point stands.
struct Digits {
    negative: bool,
    digits: String,
    /// The power of ten of the first digit.
    exponent: i32,
}

impl Digits {
    fn of(f: f64) -> Self {
        Self::parse(&format!("{f:e}"))
    }

    /// From Rust's `1.2345e-7`.
    fn parse(text: &str) -> Self {
        let (negative, text) = text.strip_prefix('-').map_or((false, text), |t| (true, t));
        let (mantissa, exponent) = text.split_once('e').unwrap_or((text, "0"));
        Self { negative, digits: mantissa.replace('.', ""), exponent: exponent.parse().unwrap_or(0) }
    }

    fn sign(&self, out: &mut String) {
        if self.negative {
            out.push('-');
        }
    }

    fn positional(&self, out: &mut String) {
        self.sign(out);
        let point = self.exponent + 1;
        if point <= 0 {
            out.push_str("0.");
            (point..0).for_each(|_| out.push('0'));
            out.push_str(&self.digits);
            return;
        }
        let point = point.unsigned_abs() as usize;
        match self.digits.split_at_checked(point) {
            Some((whole, "")) => out.push_str(whole),
            Some((whole, fraction)) => _ = write!(out, "{whole}.{fraction}"),
            None => {
                out.push_str(&self.digits);
                (self.digits.len()..point).for_each(|_| out.push('0'));
            }
        }
    }

    fn scientific(&self, out: &mut String, exponent_digits: usize) {
        self.sign(out);
        let (first, rest) = self.digits.split_at_checked(1).unwrap_or((&self.digits, ""));
        out.push_str(first);
        if !rest.is_empty() {
            _ = write!(out, ".{rest}");
        }
        let sign = if self.exponent < 0 { '-' } else { '+' };
        _ = write!(out, "e{sign}{:0exponent_digits$}", self.exponent.unsigned_abs());
    }
}
