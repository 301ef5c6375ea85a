//! Words of other programs, made fit to be shown.

use base64::Engine as _;

/// Longest foreign text that is shown, in characters.
const LONGEST: usize = 300;

/// Removes from `text` every secret (also in base64 and percent-encoded form), user and query of any URL, and control
/// characters; joins it to one line and cuts it.
pub(crate) fn scrub(text: &str, secrets: &[&str]) -> String {
    let mut out = text.to_owned();
    for secret in secrets {
        for form in [
            (*secret).to_owned(),
            base64::engine::general_purpose::STANDARD.encode(secret),
            base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(secret),
            percent_encode(secret),
        ] {
            // A secret of one or two letters would tear every text apart and is no secret.
            if form.len() > 2 {
                out = out.replace(&form, "***");
            }
        }
    }
    let words: Vec<String> =
        out.split(|c: char| c.is_whitespace() || c.is_control()).filter(|w| !w.is_empty()).map(strip_url).collect();
    let mut out = words.join(" ");
    if out.chars().count() > LONGEST {
        out = out.chars().take(LONGEST).collect::<String>() + "...";
    }
    out
}

/// `scheme://user:password@host/path?query` becomes `scheme://host/path`.
fn strip_url(word: &str) -> String {
    let Some((before, rest)) = word.split_once("://") else { return word.to_owned() };
    let end = rest.find(['?', '#']).unwrap_or(rest.len());
    let (kept, query) = rest.split_at(end);
    let authority = kept.find('/').unwrap_or(kept.len());
    let host = kept[..authority].rfind('@').map_or(0, |at| at + 1);
    // What closes the word, such as a quote or a bracket, is not part of the query.
    let closing = query.trim_start_matches(|c: char| !matches!(c, '"' | '\'' | ')' | '>' | ',' | ';'));
    format!("{before}://{}{closing}", &kept[host..])
}

fn percent_encode(text: &str) -> String {
    let mut out = String::new();
    for b in text.bytes() {
        if b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_' | b'~') {
            out.push(char::from(b));
        } else {
            out.push_str(&format!("%{b:02X}"));
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_secret_gets_through() {
        let secret = "p@ss/word canary";
        let encoded = base64::engine::general_purpose::STANDARD.encode(secret);
        let text = format!("a {secret} b {encoded} c p%40ss%2Fword%20canary d");
        assert_eq!(scrub(&text, &[secret]), "a *** b *** c *** d");
        let check = |text: &str, want: &str| assert_eq!(scrub(text, &[]), want);
        check("for url (https://u:canary@host:1/a?b=canary)", "for url (https://host:1/a)");
        check("'https://canary@host/a' is gone", "'https://host/a' is gone");
        check("two\nlines\u{7}here", "two lines here");
        assert_eq!(scrub(&"x".repeat(1000), &[]).len(), LONGEST + 3);
    }
}
