//! Unquoted dates: which texts go-yaml takes for one, and what it writes instead.

/// The RFC 3339 form of a text that go-yaml reads as a point in time, or `None` when it reads it as something else.
///
/// Four forms: `2006-1-2`, `2006-1-2 15:4:5.9`, and `2006-1-2T15:4:5.9Z` or with `t` and an offset. One digit is enough
/// everywhere but in the year and the offset; more than nine digits of a second are cut. An offset of a day or more is
/// read but has no RFC 3339 form. Source: go-yaml `resolve.go` (`parseTimestamp`) over Go's `time.Parse`.
pub(crate) fn rfc3339(text: &str) -> Option<String> {
    let t = parse(text).filter(|t| t.offset_minutes.abs() < 24 * 60)?;
    let mut out = format!("{:04}-{:02}-{:02}T{:02}:{:02}:{:02}", t.year, t.month, t.day, t.hour, t.minute, t.second);
    if t.nanos != 0 {
        let fraction = format!("{:09}", t.nanos);
        out.push('.');
        out.push_str(fraction.trim_end_matches('0'));
    }
    match t.offset_minutes {
        0 => out.push('Z'),
        m => {
            let sign = if m < 0 { '-' } else { '+' };
            out.push_str(&format!("{sign}{:02}:{:02}", m.abs() / 60, m.abs() % 60));
        }
    }
    Some(out)
}

/// Whether go-yaml reads this text as a point in time.
pub(crate) fn is_timestamp(text: &str) -> bool {
    // The common case first: nearly no scalar starts with four digits and a dash.
    matches!(text.as_bytes(), [a, b, c, d, b'-', ..] if [a, b, c, d].iter().all(|b| b.is_ascii_digit()))
        && parse(text).is_some()
}

struct Time {
    year: u32,
    month: u32,
    day: u32,
    hour: u32,
    minute: u32,
    second: u32,
    nanos: u32,
    offset_minutes: i32,
}

fn parse(text: &str) -> Option<Time> {
    let (year, rest) = text.as_bytes().split_at_checked(4)?;
    if !year.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let year = year.iter().fold(0, |n, b| n * 10 + u32::from(b - b'0'));
    let (month, rest) = number(byte(rest, b'-')?)?;
    let (day, rest) = number(byte(rest, b'-')?)?;
    if !(1..=12).contains(&month) || day < 1 || day > days(year, month) {
        return None;
    }
    let date = Time { year, month, day, hour: 0, minute: 0, second: 0, nanos: 0, offset_minutes: 0 };
    match rest {
        [] => Some(date),
        [b'T' | b't', rest @ ..] => {
            let (time, rest) = clock(date, rest)?;
            Some(Time { offset_minutes: offset(rest)?, ..time })
        }
        [b' ', ..] => {
            let start = rest.iter().position(|b| *b != b' ')?;
            let (time, rest) = clock(date, &rest[start..])?;
            rest.is_empty().then_some(time)
        }
        _ => None,
    }
}

fn byte(text: &[u8], wanted: u8) -> Option<&[u8]> {
    text.split_first().filter(|(b, _)| **b == wanted).map(|(_, rest)| rest)
}

/// One or two digits.
fn number(text: &[u8]) -> Option<(u32, &[u8])> {
    let digit = |b: &u8| b.is_ascii_digit().then(|| u32::from(b - b'0'));
    let tens = digit(text.first()?)?;
    match text.get(1).and_then(digit) {
        Some(ones) => Some((tens * 10 + ones, &text[2..])),
        None => Some((tens, &text[1..])),
    }
}

fn clock(date: Time, text: &[u8]) -> Option<(Time, &[u8])> {
    let (hour, rest) = number(text)?;
    let (minute, rest) = number(byte(rest, b':')?)?;
    let (second, mut rest) = number(byte(rest, b':')?)?;
    if hour > 23 || minute > 59 || second > 59 {
        return None;
    }
    let mut nanos = 0;
    if let [b'.' | b',', fraction @ ..] = rest {
        let count = fraction.iter().take_while(|b| b.is_ascii_digit()).count();
        if count > 0 {
            let mut scale = 100_000_000;
            for b in &fraction[..count.min(9)] {
                nanos += u32::from(b - b'0') * scale;
                scale /= 10;
            }
            rest = &fraction[count..];
        }
    }
    Some((Time { hour, minute, second, nanos, ..date }, rest))
}

/// `Z`, or a sign, two digits, a colon, two digits. Hours up to 24 and minutes up to 60, as Go allows.
fn offset(text: &[u8]) -> Option<i32> {
    let two = |a: u8, b: u8| {
        (a.is_ascii_digit() && b.is_ascii_digit()).then(|| i32::from(a - b'0') * 10 + i32::from(b - b'0'))
    };
    match *text {
        [b'Z'] => Some(0),
        [sign @ (b'+' | b'-'), a, b, b':', c, d] => {
            let (hours, minutes) = (two(a, b)?, two(c, d)?);
            if hours > 24 || minutes > 60 {
                return None;
            }
            let offset = hours * 60 + minutes;
            Some(if sign == b'-' { -offset } else { offset })
        }
        _ => None,
    }
}

fn days(year: u32, month: u32) -> u32 {
    match month {
        4 | 6 | 9 | 11 => 30,
        2 if year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400)) => 29,
        2 => 28,
        _ => 31,
    }
}
