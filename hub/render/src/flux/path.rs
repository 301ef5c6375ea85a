//! Paths of a tree: relative, `/`-separated, without `.` and `..`.

/// The normal form of a path as people write it (`./clusters/x/`, `/clusters/x`). `None` when it leaves the tree.
#[must_use]
pub fn normal(path: &str) -> Option<String> {
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop()?;
            }
            part => parts.push(part),
        }
    }
    Some(parts.join("/"))
}

/// The normal form of a path in which `..` at the top stays at the top: how Flux joins `spec.path` to a source.
#[must_use]
pub fn clamped(path: &str) -> String {
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop();
            }
            part => parts.push(part),
        }
    }
    parts.join("/")
}

/// `folder/name`, or the name alone at the root.
#[must_use]
pub fn join(folder: &str, name: &str) -> String {
    if folder.is_empty() { name.to_owned() } else { format!("{folder}/{name}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_have_one_form_and_stay_inside() {
        for (given, expected) in [
            ("./clusters/x/", Some("clusters/x")),
            ("/clusters//x", Some("clusters/x")),
            ("a/../b", Some("b")),
            ("", Some("")),
            (".", Some("")),
            ("../x", None),
            ("a/../../x", None),
        ] {
            assert_eq!(normal(given).as_deref(), expected, "of {given:?}");
        }
        assert_eq!(clamped("../../a/./../b/"), "b");
    }
}
