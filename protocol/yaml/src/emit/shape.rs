//! Which ways of writing a text its characters allow, as libyaml and both versions of go-yaml analyse it.

/// The line ends YAML 1.1 knows.
pub(crate) fn is_break(c: char) -> bool {
    matches!(c, '\r' | '\n' | '\u{85}' | '\u{2028}' | '\u{2029}')
}

/// What is written as it is. Everything beyond the basic plane is escaped.
pub(crate) fn is_printable(c: char) -> bool {
    matches!(c, '\n' | ' '..='~' | '\u{A0}'..='\u{D7FF}' | '\u{E000}'..='\u{FFFD}') && c != '\u{FEFF}'
}

/// What a text's characters allow.
#[derive(Default)]
pub(crate) struct Shape {
    /// Without quotes inside `[]` and `{}`.
    pub(crate) flow_plain: bool,
    /// Without quotes elsewhere.
    pub(crate) block_plain: bool,
    /// In single quotes.
    pub(crate) single: bool,
    /// As a block (`|`, `>`), as go-yaml v3 sees it; v2 writes none with a tab.
    pub(crate) block: bool,
    /// It has a tab.
    pub(crate) tab: bool,
    /// It has line ends.
    pub(crate) breaks: bool,
    /// There is nothing in it.
    pub(crate) empty: bool,
}

impl Shape {
    pub(crate) fn of(text: &str) -> Self {
        if text.is_empty() {
            let no = Self::default();
            return Self { block_plain: true, single: true, empty: true, ..no };
        }
        let marker = text.starts_with("---") || text.starts_with("...");
        let (mut block, mut flow) = (marker, marker);
        let (mut breaks, mut special, mut tab) = (false, false, false);
        let (mut edge, mut trailing_space, mut break_space, mut space_break) = (false, false, false, false);
        let (mut previous_space, mut previous_break) = (false, false);
        let mut after_blank = true;
        let mut chars = text.char_indices().peekable();
        while let Some((at, c)) = chars.next() {
            let last = chars.peek().is_none();
            let before_blank = chars.peek().is_none_or(|(_, next)| matches!(next, ' ' | '\t'));
            match c {
                '#' | ',' | '[' | ']' | '{' | '}' | '&' | '*' | '!' | '|' | '>' | '\'' | '"' | '%' | '@' | '`'
                    if at == 0 =>
                {
                    (flow, block) = (true, true);
                }
                '?' | ':' if at == 0 => (flow, block) = (true, block || before_blank),
                '-' if at == 0 && before_blank => (flow, block) = (true, true),
                ',' | '?' | '[' | ']' | '{' | '}' => flow = true,
                ':' => (flow, block) = (true, block || before_blank),
                '#' if after_blank => (flow, block) = (true, true),
                _ => {}
            }
            if c == '\t' {
                tab = true;
            } else if !is_printable(c) {
                special = true;
            }
            if c == ' ' {
                edge |= at == 0 || last;
                trailing_space |= last;
                break_space |= previous_break;
                (previous_space, previous_break) = (true, false);
            } else if is_break(c) {
                breaks = true;
                edge |= at == 0 || last;
                space_break |= previous_space;
                (previous_space, previous_break) = (false, true);
            } else {
                (previous_space, previous_break) = (false, false);
            }
            after_blank = matches!(c, ' ' | '\t' | '\0') || is_break(c);
        }
        let odd = space_break || tab || special;
        let plain = !(edge || break_space || odd || breaks);
        Self {
            flow_plain: plain && !flow,
            block_plain: plain && !block,
            single: !(break_space || odd),
            block: !(trailing_space || space_break || special),
            tab,
            breaks,
            empty: false,
        }
    }
}
