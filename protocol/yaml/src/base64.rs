//! The little base64 that `!!binary` needs, as Go's standard decoder reads it.

/// Decodes; line ends are skipped, padding is required. `None` when it is not base64.
pub(crate) fn decode(text: &str) -> Option<Vec<u8>> {
    let mut out = Vec::with_capacity(text.len() / 4 * 3);
    let (mut bits, mut count, mut padding) = (0u32, 0, 0);
    for b in text.bytes().filter(|b| !matches!(b, b'\r' | b'\n')) {
        let six = match b {
            b'A'..=b'Z' => b - b'A',
            b'a'..=b'z' => b - b'a' + 26,
            b'0'..=b'9' => b - b'0' + 52,
            b'+' => 62,
            b'/' => 63,
            b'=' if count >= 2 => {
                padding += 1;
                count += 1;
                if count == 4 {
                    let whole = bits << (6 * padding);
                    out.extend_from_slice(&whole.to_be_bytes()[1..4 - padding]);
                    bits = 0;
                    // Nothing may follow.
                    count = 5;
                }
                continue;
            }
            _ => return None,
        };
        if padding > 0 {
            return None;
        }
        bits = bits << 6 | u32::from(six);
        count += 1;
        if count == 4 {
            out.extend_from_slice(&bits.to_be_bytes()[1..]);
            (bits, count) = (0, 0);
        }
    }
    matches!(count, 0 | 5).then_some(out)
}

/// Bytes as text, each wrong byte replaced by U+FFFD, as Go's JSON encoder does.
pub(crate) fn lossy(bytes: &[u8]) -> String {
    let mut out = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        out.push_str(chunk.valid());
        chunk.invalid().iter().for_each(|_| out.push('\u{FFFD}'));
    }
    out
}
