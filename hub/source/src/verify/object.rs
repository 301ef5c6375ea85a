//! A commit or tag as Git signs it: its bytes without the signature.

/// What was signed, and the signature.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Signed {
    pub(crate) payload: Vec<u8>,
    /// `None`: there is none.
    pub(crate) signature: Option<String>,
}

/// Lines with their line breaks.
fn lines(bytes: &[u8]) -> impl Iterator<Item = &[u8]> {
    bytes.split_inclusive(|b| *b == b'\n')
}

/// The signature of a commit is a header; its further lines begin with a space.
///
/// # Errors
/// More than one signature: it is not clear what was signed.
pub(crate) fn split_commit(raw: &[u8]) -> Result<Signed, String> {
    let mut payload = Vec::with_capacity(raw.len());
    let mut signature: Option<Vec<u8>> = None;
    let mut rest = raw;
    // Which header the line belongs to: ours, another signature's, or any other.
    let mut inside = Header::Other;
    for line in lines(raw) {
        if line == b"\n" {
            break;
        }
        rest = &rest[line.len()..];
        inside = match (line, inside) {
            ([b' ', ..], known) => known,
            (line, _) if line.starts_with(b"gpgsig ") => {
                if signature.is_some() {
                    return Err("it has more than one signature".to_owned());
                }
                signature = Some(Vec::new());
                Header::Signature
            }
            (line, _) if line.starts_with(b"gpgsig-sha256 ") => Header::OtherSignature,
            _ => Header::Other,
        };
        match inside {
            Header::Signature => {
                let text = line.strip_prefix(b"gpgsig ").or_else(|| line.strip_prefix(b" ")).unwrap_or(line);
                signature.get_or_insert_default().extend_from_slice(text);
            }
            Header::OtherSignature => {}
            Header::Other => payload.extend_from_slice(line),
        }
    }
    payload.extend_from_slice(rest);
    Ok(Signed { payload, signature: signature.map(text) })
}

#[derive(Clone, Copy)]
enum Header {
    Signature,
    OtherSignature,
    Other,
}

/// The signature of a tag stands at its end.
pub(crate) fn split_tag(raw: &[u8]) -> Signed {
    let mut at = 0;
    let mut start = None;
    for line in lines(raw) {
        let begins = [
            &b"-----BEGIN PGP SIGNATURE-----"[..],
            b"-----BEGIN SSH SIGNATURE-----",
            b"-----BEGIN SIGNED MESSAGE-----",
        ]
        .iter()
        .any(|armour| line.starts_with(armour));
        if begins {
            start = Some(at); // the last one counts, as for Git
        }
        at += line.len();
    }
    match start {
        None => Signed { payload: raw.to_vec(), signature: None },
        Some(start) => {
            let (payload, signature) = raw.split_at(start);
            Signed { payload: payload.to_vec(), signature: Some(text(signature.to_vec())) }
        }
    }
}

/// The name a tag object says it has.
pub(crate) fn tag_name(raw: &[u8]) -> Option<String> {
    let header = lines(raw).take_while(|line| *line != b"\n").find_map(|line| line.strip_prefix(b"tag "))?;
    Some(String::from_utf8_lossy(header).trim_end_matches('\n').to_owned())
}

fn text(bytes: Vec<u8>) -> String {
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_commit_is_what_is_left_without_its_signature() {
        let head = "tree 1\nparent 2\nauthor A\ncommitter A\n";
        let raw = format!(
            "{head}gpgsig -----BEGIN PGP SIGNATURE-----\n \n abc\n -----END PGP SIGNATURE-----\nencoding x\n\nsubject\n\ngpgsig no\n"
        );
        let signed = split_commit(raw.as_bytes()).unwrap();
        assert_eq!(String::from_utf8(signed.payload).unwrap(), format!("{head}encoding x\n\nsubject\n\ngpgsig no\n"));
        assert_eq!(signed.signature.unwrap(), "-----BEGIN PGP SIGNATURE-----\n\nabc\n-----END PGP SIGNATURE-----\n");
        let plain = format!("{head}\nsubject\n");
        let unsigned = Signed { payload: plain.clone().into_bytes(), signature: None };
        assert_eq!(split_commit(plain.as_bytes()).unwrap(), unsigned);
        let other = format!("{head}gpgsig-sha256 x\n y\n\nsubject\n");
        assert_eq!(split_commit(other.as_bytes()).unwrap(), unsigned, "made for another hash");
        let twice = format!("{head}gpgsig a\n b\ngpgsig c\n\nsubject\n");
        assert!(split_commit(twice.as_bytes()).is_err());
        assert!(split_commit(b"").is_ok());
    }

    #[test]
    fn a_tag_is_what_stands_before_its_last_signature() {
        let body = "object 1\ntype commit\ntag v1\ntagger A\n\nmessage\n-----BEGIN PGP SIGNATURE-----\nquoted\n";
        let raw = format!("{body}-----BEGIN SSH SIGNATURE-----\nabc\n-----END SSH SIGNATURE-----\n");
        let signed = split_tag(raw.as_bytes());
        assert_eq!(String::from_utf8(signed.payload).unwrap(), body);
        assert!(signed.signature.unwrap().starts_with("-----BEGIN SSH"));
        assert_eq!(split_tag(b"object 1\n\nmessage\n").signature, None);
        assert_eq!(tag_name(raw.as_bytes()).as_deref(), Some("v1"));
        assert_eq!(tag_name(b"object 1\n\ntag v1\n"), None, "the message is no header");
    }
}
