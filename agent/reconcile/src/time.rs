//! The one form of time the API server writes: RFC 3339 in UTC.

use crate::input::Millis;

/// `2026-11-21T11:23:58Z` or with a fraction, to Unix milliseconds. `None` for anything else.
#[must_use]
pub fn parse(text: &str) -> Option<Millis> {
    let text = text.strip_suffix('Z')?;
    let (date, clock) = text.split_once('T')?;
    let mut date = date.splitn(3, '-').map(|part| part.parse::<i64>().ok());
    let (year, month, day) = (date.next()??, date.next()??, date.next()??);
    let (clock, fraction) = clock.split_once('.').unwrap_or((clock, ""));
    let mut clock = clock.splitn(3, ':').map(|part| part.parse::<i64>().ok());
    let (hour, minute, second) = (clock.next()??, clock.next()??, clock.next()??);
    if !(1970..=9999).contains(&year) || !(1..=12).contains(&month) || !(1..=31).contains(&day) {
        return None;
    }
    if !(0..24).contains(&hour) || !(0..60).contains(&minute) || !(0..=60).contains(&second) {
        return None;
    }
    let millis =
        match fraction.len() {
            0 => 0,
            _ => fraction.bytes().take(3).enumerate().try_fold(0i64, |sum, (i, b)| {
                b.is_ascii_digit().then(|| sum + i64::from(b - b'0') * [100, 10, 1][i])
            })?,
        };
    // Days since 1970 by counting years from March, so that the leap day comes last.
    let (y, m) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let days = y * 365 + y / 4 - y / 100 + y / 400 + (m * 153 + 2) / 5 + day - 1 - 719_468;
    u64::try_from(((days * 24 + hour) * 60 + minute) * 60 + second).ok()?.checked_mul(1000)?.checked_add_signed(millis)
}

/// How long, for people: `12s`, `3m`, `2h5m`, `4d`.
#[must_use]
pub fn span(millis: Millis) -> String {
    let seconds = millis / 1000;
    match seconds {
        0..120 => format!("{seconds}s"),
        120..7200 => format!("{}m", seconds / 60),
        7200..172_800 => format!("{}h{}m", seconds / 3600, seconds % 3600 / 60),
        _ => format!("{}d", seconds / 86_400),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_of_the_api_server_read_as_unix_milliseconds() {
        for (text, want) in [
            ("1970-01-01T00:00:00Z", Some(0)),
            ("2026-11-21T11:23:58Z", Some(1_795_260_238_000)),
            ("2024-02-29T23:59:59Z", Some(1_709_251_199_000)),
            ("2000-03-01T00:00:00.25Z", Some(951_868_800_250)),
            ("2026-11-21T11:23:58.123456Z", Some(1_795_260_238_123)),
            ("2026-13-21T11:23:58Z", None),
            ("2026-11-21 11:23:58", None),
            ("", None),
        ] {
            assert_eq!(parse(text), want, "{text}");
        }
    }
}
