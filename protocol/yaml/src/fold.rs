//! What becomes of a folded text (`>`) on its way through kustomize.

/// The text after go-yaml v3 has written it folded again and read it back, as kustomize does once with every object.
///
/// The writer means to leave out the extra line break before an indented line, looks at the start of the text instead of
/// that line, and so puts one in. `None` when nothing changes.
/// Source: go-yaml v3 `emitterc.go`, `yaml_emitter_write_folded_scalar`.
pub(crate) fn refold(text: &str) -> Option<String> {
    let unfit = |c: char| c != '\n' && (c.is_control() || matches!(c, '\u{85}' | '\u{2028}' | '\u{2029}' | '\u{feff}'));
    // These are written in double quotes.
    if !text.contains('\n') || text.contains(" \n") || text.ends_with(' ') || text.contains(unfit) {
        return None;
    }
    let read = read(&write(text), keep(text));
    (read != text).then_some(read)
}

fn blank(line: &str) -> bool {
    line.starts_with([' ', '\t'])
}

/// Whether all line ends at the end of the text are kept: `>+`.
fn keep(text: &str) -> bool {
    text == "\n" || text.ends_with("\n\n")
}

/// The lines as they are written, indentation left out.
fn write(text: &str) -> String {
    let start = text.trim_start_matches('\n');
    let extra = !start.is_empty() && !blank(start);
    let mut out = String::with_capacity(text.len() + 8);
    let (mut after_break, mut indented) = (true, true);
    for c in text.chars() {
        if c == '\n' {
            if !after_break && !indented && extra {
                out.push('\n');
            }
            out.push('\n');
            after_break = true;
        } else {
            if after_break {
                indented = c == ' ' || c == '\t';
            }
            out.push(c);
            after_break = false;
        }
    }
    out
}

/// The value of a folded block of these lines.
fn read(lines: &str, keep: bool) -> String {
    let clip = lines.ends_with('\n');
    let mut out = String::with_capacity(lines.len());
    // The break that is still to be written or folded, and the empty lines after it.
    let (mut pending, mut empty) = (false, 0usize);
    let mut last_blank = false;
    let body = lines.strip_suffix('\n').unwrap_or(lines);
    for line in body.split('\n') {
        if line.is_empty() {
            empty += 1;
            continue;
        }
        let this_blank = blank(line);
        if pending {
            if last_blank || this_blank {
                out.push('\n');
            } else if empty == 0 {
                out.push(' ');
            }
        }
        (0..empty).for_each(|_| out.push('\n'));
        empty = 0;
        out.push_str(line);
        (pending, last_blank) = (true, this_blank);
    }
    if clip && pending {
        out.push('\n');
    }
    if keep {
        (0..empty).for_each(|_| out.push('\n'));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::refold;

    #[test]
    fn folded_text_changes_as_in_kustomize() {
        for (text, expected) in [
            ("a b", None),
            ("a\nb", None),
            ("a\n", None),
            ("a\n  b\n)", Some("a\n\n  b\n)")),
            ("a\n\n  b", Some("a\n\n\n  b")),
            ("  a\nb\nc", Some("  a\nb c")),
        ] {
            assert_eq!(refold(text).as_deref(), expected, "{text:?}");
        }
    }
}
