//! Data to stdout, everything else to stderr; tables for people, JSON and YAML for programs.

use std::io::{IsTerminal as _, Write};

use serde::Serialize;

use crate::args::Output;
use crate::error::{CliError, Kind};

/// A table: columns sized to their content, no lines, as `kubectl` prints.
#[derive(Debug)]
pub struct Table {
    header: Vec<&'static str>,
    rows: Vec<Vec<String>>,
}

impl Table {
    /// A table with these columns.
    #[must_use]
    pub fn new(header: &[&'static str]) -> Self {
        Self { header: header.to_vec(), rows: Vec::new() }
    }

    /// Adds a row; as many cells as columns.
    pub fn row(&mut self, cells: Vec<String>) {
        self.rows.push(cells);
    }

    /// As text, with a line end after each row. Cells keep to one line: control characters become spaces, so that a
    /// message from a cluster cannot move the cursor.
    #[must_use]
    pub fn render(&self) -> String {
        let clean = |text: &str| -> String {
            text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect::<String>().trim_end().to_owned()
        };
        let mut lines: Vec<Vec<String>> = vec![self.header.iter().map(|h| (*h).to_owned()).collect()];
        lines.extend(self.rows.iter().map(|row| row.iter().map(|cell| clean(cell)).collect()));
        let columns = self.header.len();
        let widths: Vec<usize> = (0..columns)
            .map(|c| lines.iter().filter_map(|l| l.get(c)).map(|t| t.chars().count()).max().unwrap_or(0))
            .collect();
        let mut out = String::new();
        for line in lines {
            let mut text = String::new();
            for (c, cell) in line.iter().enumerate() {
                text.push_str(cell);
                if c + 1 < columns {
                    text.extend(std::iter::repeat_n(' ', widths[c].saturating_sub(cell.chars().count()) + 3));
                }
            }
            out.push_str(text.trim_end());
            out.push('\n');
        }
        out
    }
}

/// Prints data in the format asked for; `table` is made only when it is wanted.
pub fn print<T: Serialize>(output: Output, data: &T, table: impl FnOnce() -> String) -> Result<(), CliError> {
    let text = match output {
        Output::Table => table(),
        Output::Json => {
            let json = serde_json::to_string_pretty(data)
                .map_err(|e| CliError::new(Kind::Failed, format!("cannot write the answer as JSON: {e}")))?;
            json + "\n"
        }
        Output::Yaml => serde_saphyr::to_string(data)
            .map_err(|e| CliError::new(Kind::Failed, format!("cannot write the answer as YAML: {e}")))?,
        Output::Junit | Output::Sarif | Output::Markdown => {
            return Err(CliError::new(Kind::Usage, format!("this command does not print {}", output.name())));
        }
    };
    write_stdout(&text)
}

/// Writes to stdout. A reader that went away (`| head`) is no error.
pub fn write_stdout(text: &str) -> Result<(), CliError> {
    let mut out = std::io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(e) if e.kind() != std::io::ErrorKind::BrokenPipe => {
            Err(CliError::new(Kind::Failed, format!("cannot write to stdout: {e}")))
        }
        _ => Ok(()),
    }
}

/// A line for people, on stderr.
pub fn note(text: &str) {
    eprintln!("{text}");
}

/// How far long work is, on stderr while that is a terminal; nothing for work that is short.
#[derive(Debug)]
pub struct Progress {
    what: &'static str,
    total: usize,
    done: std::sync::atomic::AtomicUsize,
    started: std::time::Instant,
    shown: std::sync::atomic::AtomicBool,
    terminal: bool,
}

/// Work that takes less shows no progress.
const SHORT: std::time::Duration = std::time::Duration::from_millis(500);

impl Progress {
    /// Work of `total` steps.
    #[must_use]
    pub fn new(what: &'static str, total: usize) -> Self {
        Self {
            what,
            total,
            done: Default::default(),
            started: std::time::Instant::now(),
            shown: Default::default(),
            terminal: std::io::stderr().is_terminal(),
        }
    }

    /// One step is done.
    pub fn step(&self) {
        use std::sync::atomic::Ordering::Relaxed;
        let done = self.done.fetch_add(1, Relaxed) + 1;
        if self.terminal && self.started.elapsed() > SHORT {
            eprint!("\r{} {done}/{}\x1b[K", self.what, self.total);
            self.shown.store(true, Relaxed);
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if self.shown.load(std::sync::atomic::Ordering::Relaxed) {
            eprint!("\r\x1b[K");
        }
    }
}

/// How long ago, in the two largest units: `3m12s`, `2h5m`, `4d`.
#[must_use]
pub fn ago(now_ms: u64, then_ms: u64) -> String {
    let seconds = now_ms.saturating_sub(then_ms) / 1000;
    match seconds {
        0..=59 => format!("{seconds}s"),
        60..=3599 => format!("{}m{}s", seconds / 60, seconds % 60),
        3600..=86_399 => format!("{}h{}m", seconds / 3600, seconds % 3600 / 60),
        _ => format!("{}d", seconds / 86_400),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up_and_control_characters_are_harmless() {
        let mut table = Table::new(&["NAME", "MESSAGE"]);
        table.row(vec!["a".into(), "one\x1b[2J\ntwo".into()]);
        table.row(vec!["long-name".into(), String::new()]);
        assert_eq!(table.render(), "NAME        MESSAGE\na           one [2J two\nlong-name\n");
    }

    #[test]
    fn ages_show_two_units() {
        for (ms, text) in [(0, "0s"), (59_999, "59s"), (192_000, "3m12s"), (7_500_000, "2h5m"), (400_000_000, "4d")] {
            assert_eq!(ago(ms, 0), text);
        }
    }
}
