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

/// The same with any zone: `2026-11-21T13:23:58+02:00` too.
#[must_use]
pub fn parse_any_zone(text: &str) -> Option<Millis> {
    let Some(at) = text.len().checked_sub(6).filter(|at| text.is_char_boundary(*at)) else { return parse(text) };
    let (local, zone) = text.split_at(at);
    let Some(ahead) = zone.strip_prefix('+').map(|zone| (zone, -1)).or(zone.strip_prefix('-').map(|zone| (zone, 1)))
    else {
        return parse(text);
    };
    let (hours, minutes) = ahead.0.split_once(':')?;
    let number = |text: &str, most: i64| {
        let digits = text.len() == 2 && text.bytes().all(|b| b.is_ascii_digit());
        text.parse::<i64>().ok().filter(|n| digits && *n <= most)
    };
    let minutes = number(hours, 23)? * 60 + number(minutes, 59)?;
    parse(&format!("{local}Z"))?.checked_add_signed(ahead.1 * minutes * 60_000)
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
    fn zones_are_read_and_nothing_else_is_taken_for_one() {
        for (text, want) in [
            ("1970-01-01T02:00:00+02:00", Some(0)),
            ("1970-01-01T00:00:00-00:30", Some(1_800_000)),
            ("1970-01-01T00:00:00+00:30", None),
            ("1970-01-01T00:00:00Z", Some(0)),
            ("1970-01-01T02:00:00+2:00", None),
            ("1970-01-01T02:00:00+24:00", None),
            ("1970-01-01", None),
            ("+02:00", None),
            ("", None),
        ] {
            assert_eq!(parse_any_zone(text), want, "{text}");
        }
    }

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
