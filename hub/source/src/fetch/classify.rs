//! From a chain of foreign errors to a cause. Types decide where there are any; words are read only where a library gives
//! nothing else, and shown only scrubbed.

use std::error::Error;
use std::io;

use gix::protocol::transport::client::AuthenticationRequired;

use crate::config::{Auth, SourceConfig};
use crate::error::Cause;
use crate::scrub::scrub;

/// Everything a chain of errors tells that matters here.
#[derive(Default, Debug)]
struct Facts {
    status: Option<u16>,
    unauthorized: bool,
    connect: bool,
    timeout: bool,
    io: Option<io::ErrorKind>,
    tls: Option<rustls::Error>,
    corrupted: bool,
    disk: bool,
    words: Vec<String>,
}

impl Facts {
    fn gather(&mut self, error: &(dyn Error + 'static)) {
        if let Some(e) = error.downcast_ref::<reqwest::Error>() {
            self.connect |= e.is_connect();
            self.timeout |= e.is_timeout();
            self.status = self.status.or(e.status().map(|s| s.as_u16()));
        }
        self.unauthorized |= error.is::<AuthenticationRequired>();
        if let Some(e) = error.downcast_ref::<rustls::Error>() {
            self.tls.get_or_insert_with(|| e.clone());
        }
        if let Some(e) = error.downcast_ref::<io::Error>() {
            if e.raw_os_error().is_some() || e.get_ref().is_none() {
                self.io.get_or_insert(e.kind());
            }
            // `source` of an io error skips what it wraps.
            if let Some(inner) = e.get_ref() {
                self.chain(inner);
            }
        }
        self.words.push(error.to_string());
    }

    fn chain(&mut self, error: &(dyn Error + 'static)) {
        let mut next = Some(error);
        while let Some(error) = next {
            self.gather(error);
            if let Some(e) = error.downcast_ref::<gix::Error>() {
                for inner in e.iter_errors() {
                    self.gather(inner);
                }
            }
            next = error.source();
        }
    }

    fn says(&self, needle: &str) -> bool {
        self.words.iter().any(|w| w.to_ascii_lowercase().contains(needle))
    }
}

/// The host answered 401.
pub(super) fn unauthorized(config: &SourceConfig) -> Cause {
    let sent = config.basic().is_some() || !matches!(config.auth, Auth::None);
    Cause::AuthRefused { sent, reason: "HTTP 401".to_owned() }
}

/// A single file, anywhere in the history.
pub(super) fn object_too_large(limit: u64) -> Cause {
    let reason = format!("a file in its history unpacks to more than the limit of {limit} bytes for one object");
    Cause::CommitUnusable { reason }
}

/// Whom a conversation was with, for what is said about it.
pub(crate) struct Peer<'a> {
    /// `host` or `host:port`.
    pub(crate) host: String,
    /// Whether credentials were sent.
    pub(crate) sent: bool,
    /// The proxy in between.
    pub(crate) proxy: Option<String>,
    /// What must not be shown.
    pub(crate) secrets: Vec<&'a str>,
}

impl Peer<'_> {
    /// The cause behind a request that failed.
    pub(crate) fn classify(&self, error: &(dyn Error + 'static)) -> Cause {
        let mut facts = Facts::default();
        facts.chain(error);
        cause(&facts, self)
    }
}

/// The cause behind a failed conversation with a Git host.
pub(super) fn classify(error: &gix::Error, config: &SourceConfig) -> Cause {
    let mut facts = Facts { corrupted: error.is_corrupted(), ..Facts::default() };
    for e in error.iter_errors() {
        facts.chain(e);
    }
    facts.disk = facts.says("temporary pack file")
        || matches!(facts.io, Some(io::ErrorKind::StorageFull | io::ErrorKind::ReadOnlyFilesystem));
    let host = match (config.url.host().unwrap_or_default(), config.url.port()) {
        (host, Some(port)) => format!("{host}:{port}"),
        (host, None) => host.to_owned(),
    };
    let peer = Peer {
        host,
        sent: config.basic().is_some() || !matches!(config.auth, Auth::None),
        proxy: config.proxy.as_ref().map(|p| p.url.origin()),
        secrets: config.secrets(),
    };
    if error.is_resource_exhausted() && !facts.disk {
        return object_too_large(config.limits.alloc_bytes);
    }
    cause(&facts, &peer)
}

fn cause(facts: &Facts, peer: &Peer<'_>) -> Cause {
    let (host, sent) = (peer.host.clone(), peer.sent);
    let last = || {
        let words = facts.words.last().map(String::as_str).unwrap_or_default();
        scrub(words, &peer.secrets)
    };

    if facts.disk {
        return Cause::Disk { reason: format!("the fetched pack cannot be written: {}", last()) };
    }
    if let Some(tls) = &facts.tls {
        return certificate(tls, &host);
    }
    if facts.unauthorized || facts.status == Some(401) {
        return Cause::AuthRefused { sent, reason: "HTTP 401".to_owned() };
    }
    if facts.says("refusing to follow redirect") || facts.says("does not end with expected request suffix") {
        return Cause::Redirected { to: String::new() };
    }
    match facts.status {
        Some(403) => return Cause::AuthRefused { sent, reason: "HTTP 403".to_owned() },
        Some(407) => return Cause::ProxyRefused { reason: "HTTP 407, it asks for credentials".to_owned() },
        Some(404 | 410) => return Cause::RepositoryNotFound,
        Some(status @ 300..400) => {
            return Cause::ProtocolUnsupported { reason: format!("it answers with HTTP {status}") };
        }
        Some(429) => return Cause::HostFailed { reason: "HTTP 429, it asks us to come less often".to_owned() },
        Some(status @ 400..500) => {
            return Cause::ProtocolUnsupported { reason: format!("it answers with HTTP {status}") };
        }
        Some(status) => return Cause::HostFailed { reason: format!("HTTP {status}") },
        None => {}
    }
    if peer.proxy.is_some() && (facts.says("proxy") || facts.says("tunnel")) {
        return Cause::ProxyRefused { reason: last() };
    }
    if let (true, Some(proxy)) = (facts.connect, &peer.proxy) {
        let reason = facts.io.map_or_else(last, |kind| kind.to_string());
        return Cause::ProxyRefused { reason: format!("no connection to {proxy}: {reason}") };
    }
    if facts.says("dns error") || facts.says("failed to lookup address") {
        let name = host.rsplit_once(':').map_or(host.as_str(), |(name, _)| name);
        return Cause::HostUnknown { host: name.to_owned() };
    }
    if facts.timeout {
        return Cause::HostUnreachable { host, reason: "it does not answer".to_owned() };
    }
    if facts.says("'smart' protocol") {
        return Cause::ProtocolUnsupported { reason: "it does not answer as a Git host".to_owned() };
    }
    if facts.says("end of file before message length") || facts.says("connection closed before message") {
        return Cause::HostUnreachable { host, reason: "the connection broke while data arrived".to_owned() };
    }
    if facts.corrupted || facts.says("pack") && !facts.connect && facts.io.is_none() {
        return Cause::Corrupt { reason: format!("the pack that arrived cannot be read: {}", last()) };
    }
    if let Some(kind) = facts.io.filter(|k| *k != io::ErrorKind::Other) {
        return Cause::HostUnreachable { host, reason: kind.to_string() };
    }
    if facts.connect {
        return Cause::HostUnreachable { host, reason: last() };
    }
    Cause::HostFailed { reason: last() }
}

fn certificate(error: &rustls::Error, host: &str) -> Cause {
    use rustls::CertificateError as C;
    let reason = match error {
        rustls::Error::InvalidCertificate(C::UnknownIssuer) => "its issuer is not known".to_owned(),
        rustls::Error::InvalidCertificate(C::BadSignature) => {
            "it was signed with another key than that of the trusted CA of this name".to_owned()
        }
        rustls::Error::InvalidCertificate(C::Expired | C::ExpiredContext { .. }) => "it has expired".to_owned(),
        rustls::Error::InvalidCertificate(C::NotValidYet | C::NotValidYetContext { .. }) => {
            "it is not valid yet; compare the clocks".to_owned()
        }
        rustls::Error::InvalidCertificate(C::NotValidForName | C::NotValidForNameContext { .. }) => {
            format!("it is for another name than {host}")
        }
        rustls::Error::InvalidCertificate(_) => scrub(&error.to_string(), &[]),
        rustls::Error::AlertReceived(alert) => {
            return Cause::AuthRefused { sent: true, reason: format!("TLS alert {alert:?}") };
        }
        other => {
            let reason = format!("no TLS connection: {}", scrub(&other.to_string(), &[]));
            return Cause::HostUnreachable { host: host.to_owned(), reason };
        }
    };
    Cause::CertificateUntrusted { reason }
}
