//! Addresses of repositories, which never show what is secret in them.

use std::fmt;

use gix::url::Scheme;

use crate::config::Secret;

/// How a repository is reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    /// `https://`.
    Https,
    /// `http://`: plain text on the wire. Credentials are sent to a loopback host only.
    Http,
    /// `ssh://` or `user@host:path`.
    Ssh,
    /// `file://` or an absolute path: read as an object store, without any program.
    File,
}

/// Why a text is not the address of a repository. The text itself is not repeated: it may hold a password.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UrlError {
    /// Not a URL at all.
    #[error("this is not the URL of a Git repository")]
    Malformed,
    /// A scheme other than https, http, ssh, file.
    #[error("scheme {scheme:?} is not supported; use https, ssh or file")]
    Scheme {
        /// The scheme, which holds no secret.
        scheme: String,
    },
    /// A part is missing.
    #[error("the URL has no {part}")]
    Missing {
        /// `host` or `path`.
        part: &'static str,
    },
    /// A part that `ssh` could take for an option, or that cannot be written on a command line.
    #[error(
        "the {part} of the URL starts with '-' or holds a control character, which could be mistaken for an option"
    )]
    Unsafe {
        /// `user`, `host` or `path`.
        part: &'static str,
    },
    /// A relative path.
    #[error("a file repository needs an absolute path")]
    Relative,
}

/// The address of a repository. `Display` and `Debug` show scheme, host, port and path only: never a user, a password or
/// a query, which may hold tokens.
#[derive(Clone)]
pub struct SourceUrl {
    transport: Transport,
    /// Without password and query.
    bare: gix::Url,
    password: Option<Secret>,
}

impl SourceUrl {
    /// Reads `https://`, `http://`, `ssh://`, `file://`, `user@host:path` or an absolute path.
    ///
    /// # Errors
    /// [`UrlError`], without the text.
    pub fn parse(text: &str) -> Result<Self, UrlError> {
        if text.chars().any(char::is_control) {
            return Err(UrlError::Malformed);
        }
        let mut bare = gix::url::parse(text).map_err(|_| UrlError::Malformed)?;
        let transport = match &bare.scheme {
            Scheme::Https => Transport::Https,
            Scheme::Http => Transport::Http,
            Scheme::Ssh => Transport::Ssh,
            Scheme::File => Transport::File,
            other => return Err(UrlError::Scheme { scheme: other.as_str().to_owned() }),
        };
        let password = bare.password().map(|p| Secret::new(p.to_owned()));
        bare.set_password(None);
        if matches!(transport, Transport::Https | Transport::Http) {
            // A query would be sent to the host, and is a place where people put tokens: not part of a repository's name.
            if let Some(end) = bare.path.iter().position(|b| matches!(b, b'?' | b'#')) {
                bare.path.truncate(end);
            }
        }
        let url = SourceUrl { transport, bare, password };
        url.vet()?;
        Ok(url)
    }

    fn vet(&self) -> Result<(), UrlError> {
        let smuggled = |text: &str| text.starts_with('-') || text.chars().any(|c| c.is_control());
        let path = self.path();
        if self.transport == Transport::File {
            return if path.starts_with('/') { Ok(()) } else { Err(UrlError::Relative) };
        }
        let host = self.host().filter(|h| !h.is_empty()).ok_or(UrlError::Missing { part: "host" })?;
        if smuggled(host) || host.contains(char::is_whitespace) || host.contains('@') {
            return Err(UrlError::Unsafe { part: "host" });
        }
        if path.trim_matches('/').is_empty() {
            return Err(UrlError::Missing { part: "path" });
        }
        if self.transport == Transport::Ssh && smuggled(&path) {
            return Err(UrlError::Unsafe { part: "path" });
        }
        if self.bare.user().is_some_and(|u| smuggled(u) || u.contains(char::is_whitespace)) {
            return Err(UrlError::Unsafe { part: "user" });
        }
        Ok(())
    }

    /// How it is reached.
    #[must_use]
    pub fn transport(&self) -> Transport {
        self.transport
    }

    /// The host; none for a file repository.
    #[must_use]
    pub fn host(&self) -> Option<&str> {
        self.bare.host()
    }

    /// The port, when the URL names one.
    #[must_use]
    pub fn port(&self) -> Option<u16> {
        self.bare.port
    }

    /// The path, which for a file repository is a path of this machine.
    #[must_use]
    pub fn path(&self) -> String {
        self.bare.path.to_string()
    }

    /// Whether the host is this machine itself, so that nothing leaves it.
    #[must_use]
    pub fn is_loopback(&self) -> bool {
        let Some(host) = self.host() else { return true };
        let host = host.trim_start_matches('[').trim_end_matches(']');
        host.eq_ignore_ascii_case("localhost") || host.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback())
    }

    /// Whether both name one repository: same host, port and path, whatever the scheme, user, letter case of the host or a
    /// trailing `.git` or `/` (`decisions.md`: "normalised URL").
    #[must_use]
    pub fn same_repository(&self, other: &SourceUrl) -> bool {
        self.normalized() == other.normalized()
    }

    /// `host[:port]/path` in lower-case host, without `.git`, default port and slashes at the ends.
    #[must_use]
    pub fn normalized(&self) -> String {
        let path = self.path();
        let path = path.trim_matches('/');
        let path = path.strip_suffix(".git").unwrap_or(path).trim_end_matches('/');
        let default = match self.transport {
            Transport::Https => Some(443),
            Transport::Http => Some(80),
            Transport::Ssh => Some(22),
            Transport::File => None,
        };
        let host = self.host().unwrap_or_default().to_ascii_lowercase();
        match self.port().filter(|port| Some(*port) != default) {
            Some(port) => format!("{host}:{port}/{path}"),
            None => format!("{host}/{path}"),
        }
    }

    pub(crate) fn user(&self) -> Option<&str> {
        self.bare.user()
    }

    pub(crate) fn password(&self) -> Option<&Secret> {
        self.password.as_ref()
    }

    /// `scheme://host:port`.
    pub(crate) fn origin(&self) -> String {
        let scheme = self.bare.scheme.as_str();
        let host = self.host().unwrap_or_default();
        self.port().map_or_else(|| format!("{scheme}://{host}"), |port| format!("{scheme}://{host}:{port}"))
    }

    /// For the transport: without user, password and query.
    pub(crate) fn anonymous(&self) -> gix::Url {
        let mut url = self.bare.clone();
        url.set_user(None);
        url
    }
}

impl fmt::Display for SourceUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = match self.transport {
            Transport::Https => "https",
            Transport::Http => "http",
            Transport::Ssh => "ssh",
            Transport::File => "file",
        };
        write!(f, "{scheme}://{}", self.host().unwrap_or_default())?;
        if let Some(port) = self.port() {
            write!(f, ":{port}")?;
        }
        let path = self.path();
        if !path.starts_with('/') {
            f.write_str("/")?;
        }
        f.write_str(&path)
    }
}

impl fmt::Debug for SourceUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SourceUrl({self})")
    }
}

impl std::str::FromStr for SourceUrl {
    type Err = UrlError;

    fn from_str(text: &str) -> Result<Self, UrlError> {
        SourceUrl::parse(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, shown: Result<&str, UrlError>) {
        let url = SourceUrl::parse(text);
        assert_eq!(url.as_ref().map(ToString::to_string).map_err(Clone::clone), shown.map(str::to_owned), "{text:?}");
        if let Ok(url) = url {
            assert!(!format!("{url:?}").contains("canary"), "{text:?} shows a secret: {url:?}");
        }
    }

    #[test]
    fn a_url_shows_no_secret() {
        check("https://example.org/a/b.git", Ok("https://example.org/a/b.git"));
        check("https://canary:canary@example.org:8443/a/b", Ok("https://example.org:8443/a/b"));
        check("https://canary@example.org/a", Ok("https://example.org/a"));
        check("https://example.org/a/b?token=canary", Ok("https://example.org/a/b"));
        check("https://example.org/a/b#canary", Ok("https://example.org/a/b"));
        check("ssh://git@example.org:2222/a/b.git", Ok("ssh://example.org:2222/a/b.git"));
        check("git@example.org:a/b.git", Ok("ssh://example.org/a/b.git"));
        check("file:///srv/git/a", Ok("file:///srv/git/a"));
        check("/srv/git/a", Ok("file:///srv/git/a"));
    }

    #[test]
    fn what_is_no_repository_is_refused() {
        check("ftp://canary@example.org/a", Err(UrlError::Scheme { scheme: "ftp".into() }));
        check("git://example.org/a", Err(UrlError::Scheme { scheme: "git".into() }));
        check("https://example.org", Err(UrlError::Missing { part: "path" }));
        check("https://example.org/", Err(UrlError::Missing { part: "path" }));
        check("some/where", Err(UrlError::Relative));
        check("ssh://-oProxyCommand=touch/a", Err(UrlError::Unsafe { part: "host" }));
        check("ssh://example.org/-oProxyCommand", Ok("ssh://example.org/-oProxyCommand"));
        check("git@example.org:-oProxyCommand", Err(UrlError::Unsafe { part: "path" }));
        check("ssh://-l@example.org/a", Err(UrlError::Unsafe { part: "user" }));
        check("https://example.org/a\nb", Err(UrlError::Malformed));
        check("", Err(UrlError::Malformed));
    }

    #[test]
    fn one_repository_has_many_spellings() {
        let one = SourceUrl::parse("https://Example.org/team/fleet.git").unwrap();
        for same in [
            "ssh://git@example.org/team/fleet",
            "git@example.org:team/fleet.git",
            "https://example.org:443/team/fleet/",
            "https://user:pw@example.org/team/fleet.git",
        ] {
            assert!(one.same_repository(&SourceUrl::parse(same).unwrap()), "{same}");
        }
        for other in
            ["https://example.org/team/other", "https://example.org:8443/team/fleet", "https://a.org/team/fleet"]
        {
            assert!(!one.same_repository(&SourceUrl::parse(other).unwrap()), "{other}");
        }
    }
}
