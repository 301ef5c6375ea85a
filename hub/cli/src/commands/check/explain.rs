//! `--explain`: what the stable codes mean, from one table.

use driftless_protocol::ask::CAUSES;
use driftless_render::report::{Code, Severity};
use serde::Serialize;

use crate::args::Output;
use crate::error::{CliError, Kind};
use crate::ui;

/// Kept with the other codes: scripts branch on both.
const EXIT_CODES: &str = "
## Exit codes

| code | of every command |
|---|---|
| 0 | done |
| 1 | failed, or what was asked about is not in order |
| 2 | wrong usage |
| 3 | the hub cannot be reached |
| 4 | no such cluster, unit, object, source or revision |
| 5 | the hub refused |

`orphans`: 0 also when there are orphans; 1 when a cluster could not be looked at wholly (its agent is away or too old, a kind
could not be listed, a limit), and with `--check` when there is one. `plan --live`: an object that would be refused, or a
cluster that could not be asked, is 1 only with `--fail-on live`. `why`: 0 whatever the answer is.
";

#[derive(Serialize)]
struct Row {
    code: Code,
    severity: Severity,
    meaning: String,
    remedy: String,
}

/// Prints one code, or all of them when `wanted` is empty.
pub fn print(wanted: &str, output: Output) -> Result<(), CliError> {
    let matches = |code: &&Code| wanted.is_empty() || code.as_str().eq_ignore_ascii_case(wanted);
    let rows: Vec<Row> = Code::ALL
        .iter()
        .filter(matches)
        .map(|code| Row { code: *code, severity: code.severity(), meaning: code.meaning(), remedy: code.remedy() })
        .collect();
    if rows.is_empty() {
        return Err(CliError::new(Kind::Usage, format!("there is no code {wanted:?}"))
            .hint("`driftless check repo --explain` lists all codes"));
    }
    ui::print(output, &rows, || {
        let one = |row: &Row| {
            let remedy = if row.remedy.is_empty() { String::new() } else { format!("\n  {}", row.remedy) };
            format!("{} ({})\n  {}{remedy}\n", row.code, severity(row.severity), row.meaning)
        };
        rows.iter().map(one).collect::<Vec<_>>().join("\n")
    })
}

/// All codes as Markdown: what `hub/cli/CODES.md` holds.
#[must_use]
pub fn markdown() -> String {
    let mut out = String::from(
        "# Codes of problems\n\nWhat `driftless check repo`, `validate` and `build --cluster` report, and what `driftless why` shows as the\n\
         reason of a held unit or withheld object. Codes are stable; words are not. The same list comes from\n\
         `driftless check repo --explain`, and this file is made from it.\n\n| code | severity | what it means, and what to do |\n|---|---|---|\n",
    );
    for code in Code::ALL {
        let cell = format!("{} {}", code.meaning(), code.remedy()).replace('|', "\\|");
        out.push_str(&format!("| {code} | {} | {} |\n", severity(code.severity()), cell.trim()));
    }
    out.push_str(
        "\n## Causes\n\nWhat `driftless why` finds below an object that is not healthy (`live.objects[].causes[].code` in its JSON).\n\n\
         | code | what it means |\n|---|---|\n",
    );
    for (code, meaning) in CAUSES {
        out.push_str(&format!("| {code} | {} |\n", meaning.replace('|', "\\|")));
    }
    out.push_str(EXIT_CODES);
    out
}

/// As people read it.
#[must_use]
pub const fn severity(severity: Severity) -> &'static str {
    match severity {
        Severity::Info => "note",
        Severity::Warning => "warning",
        Severity::Error => "error",
    }
}
