//! Texts in a `format` that the API server checks: in definitions those that can be told without doubt, of Kubernetes' own
//! types the times. Others are the API server's to judge.

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// A format.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Format {
    DateTime,
    Date,
    Ipv4,
    Ipv6,
    Cidr,
    Uuid,
    Byte,
}

impl Format {
    /// By its name in a schema.
    pub(super) fn named(name: &str) -> Option<Self> {
        Some(match name {
            "date-time" | "datetime" => Self::DateTime,
            "date" => Self::Date,
            "ipv4" => Self::Ipv4,
            "ipv6" => Self::Ipv6,
            "cidr" => Self::Cidr,
            "uuid" => Self::Uuid,
            "byte" => Self::Byte,
            _ => return None,
        })
    }

    /// Whether a text is in it.
    pub(super) fn fits(self, text: &str) -> bool {
        match self {
            Self::DateTime => is_date_time(text, true),
            Self::Date => is_date(text),
            Self::Ipv4 => is_ipv4(text),
            Self::Ipv6 => text.parse::<Ipv6Addr>().is_ok(),
            Self::Cidr => is_cidr(text),
            Self::Uuid => is_uuid(text),
            Self::Byte => super::walk::is_base64(text),
        }
    }

    /// What a text in it is.
    pub(super) fn wanted(self) -> &'static str {
        match self {
            Self::DateTime => "a time such as 2026-01-31T12:00:00Z",
            Self::Date => "a date such as 2026-01-31",
            Self::Ipv4 => "an IPv4 address",
            Self::Ipv6 => "an IPv6 address",
            Self::Cidr => "an address range such as 10.0.0.0/8",
            Self::Uuid => "a UUID",
            Self::Byte => "base64",
        }
    }
}

fn number(text: &str, digits: usize) -> Option<u32> {
    (text.len() == digits && text.bytes().all(|b| b.is_ascii_digit())).then(|| text.parse().ok())?
}

fn is_date(text: &str) -> bool {
    let parts: Vec<&str> = text.split('-').collect();
    let [year, month, day] = parts.as_slice() else { return false };
    let (Some(year), Some(month), Some(day)) = (number(year, 4), number(month, 2), number(day, 2)) else {
        return false;
    };
    let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let days = match month {
        1 | 3 | 5 | 7 | 8 | 10 | 12 => 31,
        4 | 6 | 9 | 11 => 30,
        2 if leap => 29,
        2 => 28,
        _ => return false,
    };
    (1..=days).contains(&day)
}

/// RFC 3339. `any_case`: `t` and `z` may be small, as in the formats of definitions.
pub(super) fn is_date_time(text: &str, any_case: bool) -> bool {
    let text = if any_case { text.to_ascii_uppercase() } else { text.to_owned() };
    let Some((date, time)) = text.split_once('T') else { return false };
    let (clock, zone_fits) = match time.strip_suffix('Z') {
        Some(clock) => (clock, true),
        None => {
            let Some(at) = time.rfind(['+', '-']) else { return false };
            let (clock, zone) = time.split_at(at);
            let hours = zone.get(1..3).and_then(|hours| number(hours, 2));
            let minutes = zone.get(4..).and_then(|minutes| number(minutes, 2));
            (clock, hours.is_some() && minutes.is_some() && zone.get(3..4) == Some(":"))
        }
    };
    let (whole, part) = clock.split_once('.').map_or((clock, None), |(whole, part)| (whole, Some(part)));
    let parts: Vec<&str> = whole.split(':').collect();
    let [hour, minute, second] = parts.as_slice() else { return false };
    let below = |text: &str, limit: u32| number(text, 2).is_some_and(|n| n < limit);
    let part_fits = part.is_none_or(|p| !p.is_empty() && p.bytes().all(|b| b.is_ascii_digit()));
    is_date(date) && zone_fits && part_fits && below(hour, 24) && below(minute, 60) && below(second, 60)
}

/// Zeros in front are taken, as the API server does.
fn is_ipv4(text: &str) -> bool {
    let parts: Vec<&str> = text.split('.').collect();
    let part = |p: &&str| {
        !p.is_empty()
            && p.bytes().all(|b| b.is_ascii_digit())
            && p.trim_start_matches('0').len() <= 3
            && p.parse::<u32>().is_ok_and(|n| n < 256)
    };
    let mapped = || text.contains('.') && text.parse::<Ipv6Addr>().is_ok();
    (parts.len() == 4 && parts.iter().all(part)) || mapped()
}

fn is_cidr(text: &str) -> bool {
    let Some((address, length)) = text.split_once('/') else { return false };
    let Ok(length) = length.parse::<u32>() else { return false };
    let v4 = is_ipv4(address) && !address.contains(':');
    let most = if v4 {
        Ipv4Addr::BITS
    } else {
        match address.parse::<IpAddr>() {
            Ok(IpAddr::V6(_)) => Ipv6Addr::BITS,
            _ => return false,
        }
    };
    length <= most
}

fn is_uuid(text: &str) -> bool {
    let hex: String = text.chars().filter(|c| *c != '-').collect();
    let ends = [8, 12, 16, 20];
    let mut seen = 0;
    for c in text.chars() {
        match c {
            '-' if ends.contains(&seen) => {}
            '-' => return false,
            _ => seen += 1,
        }
    }
    !text.contains("--") && hex.len() == 32 && hex.bytes().all(|b| b.is_ascii_hexdigit())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn formats_are_those_the_api_server_takes() {
        for (format, text, good) in [
            ("date-time", "2026-01-31T12:00:00Z", true),
            ("date-time", "2026-01-31t12:00:00.25+02:00", true),
            ("date-time", "yesterday", false),
            ("date-time", "2026-02-29T12:00:00Z", false),
            ("date-time", "2026-01-31T24:00:00Z", false),
            ("date-time", "2026-01-31T12:00:00", false),
            ("date-time", "2026-01-31", false),
            ("date", "2024-02-29", true),
            ("date", "2024-2-9", false),
            ("ipv4", "10.0.0.1", true),
            ("ipv4", "010.0.0.1", true),
            ("ipv4", "999.1.1.1", false),
            ("ipv4", "10.0.0", false),
            ("ipv4", "::1", false),
            ("ipv6", "::1", true),
            ("ipv6", "10.0.0.1", false),
            ("cidr", "10.0.0.0/8", true),
            ("cidr", "::/0", true),
            ("cidr", "10.0.0.0/33", false),
            ("cidr", "10.0.0.0", false),
            ("uuid", "123e4567-E89B-12d3-a456-426614174000", true),
            ("uuid", "123e4567e89b12d3a456426614174000", true),
            ("uuid", "123e4567-e89b-12d3-a456-42661417400", false),
            ("uuid", "1-23e4567e89b12d3a456426614174000", false),
            ("byte", "aGVsbG8=", true),
            ("byte", "a b", false),
        ] {
            assert_eq!(Format::named(format).unwrap().fits(text), good, "{format} {text}");
        }
        assert_eq!(Format::named("email"), None);
        assert!(!is_date_time("2026-01-31t12:00:00Z", false));
    }
}
