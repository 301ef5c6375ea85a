//! https, over gix's reqwest client with our roots, proxy, deadline and byte count.

use std::any::Any;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use gix::protocol::transport::Protocol;
use gix::protocol::transport::client::TransportWithoutIO as _;
use gix::protocol::transport::client::blocking_io::http::Transport as HttpTransport;
use gix::protocol::transport::client::blocking_io::http::reqwest::{Options as Backend, Remote};
use gix::protocol::transport::client::blocking_io::http::{GetResponse, Http, Options, PostBodyDataKind, PostResponse};

use super::Connection;
use super::meter::{Meter, Metered};
use crate::config::{Auth, ClientCertificate, Proxy, SourceConfig};
use crate::error::Cause;
use crate::url::Transport;

/// A host that does not even accept a connection in this time is down.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(20);

/// A host that sends nothing for so long has stalled: Git hosts send a sign of life every few seconds while they work.
const IDLE_TIMEOUT: Duration = Duration::from_secs(60);

/// gix's client with every arriving byte counted.
struct MeteredHttp {
    inner: Remote,
    meter: Meter,
}

impl Http for MeteredHttp {
    type Headers = <Remote as Http>::Headers;
    type ResponseBody = Metered<<Remote as Http>::ResponseBody>;
    type PostBody = <Remote as Http>::PostBody;

    fn get(
        &mut self,
        url: &str,
        base_url: &str,
        headers: impl IntoIterator<Item = impl AsRef<str>>,
    ) -> gix::Result<GetResponse<Self::Headers, Self::ResponseBody>> {
        self.meter.check().map_err(gix::Error::from_error)?;
        let answer = self.inner.get(url, base_url, headers)?;
        Ok(GetResponse { headers: answer.headers, body: Metered::new(answer.body, self.meter.clone()) })
    }

    fn post(
        &mut self,
        url: &str,
        base_url: &str,
        headers: impl IntoIterator<Item = impl AsRef<str>>,
        body: PostBodyDataKind,
    ) -> gix::Result<PostResponse<Self::Headers, Self::ResponseBody, Self::PostBody>> {
        self.meter.check().map_err(gix::Error::from_error)?;
        let answer = self.inner.post(url, base_url, headers, body)?;
        Ok(PostResponse {
            post_body: answer.post_body,
            headers: answer.headers,
            body: Metered::new(answer.body, self.meter.clone()),
        })
    }

    fn configure(&mut self, config: &dyn Any) -> gix::Result<()> {
        self.inner.configure(config)
    }

    fn redirected_base_url(&self) -> Option<String> {
        self.inner.redirected_base_url()
    }
}

/// What the client is built from, checked before anything is sent.
#[derive(Clone)]
pub(crate) struct Parts {
    roots: Vec<reqwest::Certificate>,
    identity: Option<reqwest::Identity>,
    proxy: Option<reqwest::Proxy>,
    plain: bool,
    timeout: Duration,
}

impl Parts {
    fn new(config: &SourceConfig, timeout: Duration) -> Result<Self, Cause> {
        let plain = config.url.transport() == Transport::Http;
        let (ca, certificate) = (config.ca.as_deref(), config.client_certificate.as_ref());
        Self::of(ca, certificate, config.proxy.as_ref(), plain, timeout)
    }

    pub(crate) fn of(
        ca: Option<&str>,
        client_certificate: Option<&ClientCertificate>,
        proxy: Option<&Proxy>,
        plain: bool,
        timeout: Duration,
    ) -> Result<Self, Cause> {
        let invalid = |reason: &str| Cause::ConfigInvalid { reason: reason.to_owned() };
        let roots = match ca {
            None => Vec::new(),
            Some(pem) => {
                let bad = "the source's `ca` holds no readable certificate in PEM form";
                let roots = reqwest::Certificate::from_pem_bundle(pem.as_bytes()).map_err(|_| invalid(bad))?;
                if roots.is_empty() {
                    return Err(invalid(bad));
                }
                roots
            }
        };
        let identity = match client_certificate {
            None => None,
            Some(client) => {
                let pem = zeroize::Zeroizing::new(format!("{}\n{}\n", client.certificate, client.key.expose()));
                let bad = "the source's client certificate and key are not readable PEM";
                Some(reqwest::Identity::from_pem(pem.as_bytes()).map_err(|_| invalid(bad))?)
            }
        };
        let proxy = match proxy {
            None => None,
            Some(proxy) => {
                if !matches!(proxy.url.transport(), Transport::Http | Transport::Https) {
                    return Err(invalid("the source's proxy must be an http or https address"));
                }
                let bad = "the source's proxy has no usable address";
                let mut out = reqwest::Proxy::all(proxy.url.origin()).map_err(|_| invalid(bad))?;
                let user = proxy.user.as_deref().or(proxy.url.user());
                if let Some(user) = user {
                    let password = proxy.password.as_ref().or(proxy.url.password());
                    out = out.basic_auth(user, password.map_or("", |p| p.expose()));
                }
                Some(out)
            }
        };
        Ok(Parts { roots, identity, proxy, plain, timeout })
    }

    /// For a client that does not block; its timeout is the caller's.
    pub(crate) fn build_async(&self, client: reqwest::ClientBuilder) -> reqwest::ClientBuilder {
        let mut client = client.http1_only().no_proxy();
        client = if self.plain && self.roots.is_empty() {
            client.tls_certs_only([])
        } else {
            client.tls_certs_merge(self.roots.clone())
        };
        if let Some(identity) = &self.identity {
            client = client.identity(identity.clone());
        }
        if let Some(proxy) = &self.proxy {
            client = client.proxy(proxy.clone());
        }
        client
    }

    fn build(&self, client: reqwest::blocking::ClientBuilder) -> reqwest::blocking::ClientBuilder {
        // The timeout is per wait; the meter ends the whole.
        // One request at a time needs no HTTP/2, whose library would trace headers.
        let mut client =
            client.http1_only().timeout(self.timeout).connect_timeout(CONNECT_TIMEOUT.min(self.timeout)).no_proxy();
        client = if self.plain && self.roots.is_empty() {
            client.tls_certs_only([]) // no TLS here: a machine without system roots need not fail
        } else {
            client.tls_certs_merge(self.roots.clone())
        };
        if let Some(identity) = &self.identity {
            client = client.identity(identity.clone());
        }
        if let Some(proxy) = &self.proxy {
            client = client.proxy(proxy.clone());
        }
        client
    }
}

/// Refuses what could not work, or not safely, before the first connection.
pub(super) fn check(config: &SourceConfig) -> Result<(), Cause> {
    let parts = Parts::new(config, CONNECT_TIMEOUT)?;
    if let Auth::Ssh(_) = config.auth {
        return Err(Cause::ConfigInvalid { reason: "an ssh key cannot be used with an https URL".to_owned() });
    }
    let credentials = config.basic().is_some() || matches!(config.auth, Auth::Bearer(_));
    if credentials && parts.plain && !config.url.is_loopback() {
        return Err(Cause::InsecureCredentials);
    }
    for text in config.secrets() {
        if text.chars().any(char::is_control)
            && config.client_certificate.as_ref().is_none_or(|c| c.key.expose() != text)
        {
            return Err(Cause::ConfigInvalid {
                reason: "a password or token holds a line break or another control character".to_owned(),
            });
        }
    }
    Ok(())
}

pub(super) fn connect(config: &SourceConfig, meter: &Meter) -> Result<Connection, Cause> {
    let parts = Parts::new(config, meter.remaining().min(IDLE_TIMEOUT))?;
    let http = MeteredHttp { inner: Remote::default(), meter: meter.clone() };
    let mut transport = HttpTransport::new_http(http, config.url.anonymous(), Protocol::V2, false);
    let mut options = Options { user_agent: None, ..Options::default() };
    match (&config.auth, config.basic()) {
        (Auth::Bearer(token), _) => options.extra_headers.push(format!("Authorization: Bearer {}", token.expose())),
        (_, Some((user, password))) if parts.plain => {
            use base64::Engine as _;
            let pair = zeroize::Zeroizing::new(format!("{user}:{}", password.expose()));
            let pair = base64::engine::general_purpose::STANDARD.encode(pair.as_bytes());
            options.extra_headers.push(format!("Authorization: Basic {pair}"));
        }
        (_, Some((username, password))) => {
            // As identity they follow a redirect on the same host, and no other.
            let account = gix::sec::identity::Account {
                username,
                password: password.expose().to_owned(),
                oauth_refresh_token: None,
            };
            transport.set_identity(account).map_err(|_| Cause::ConfigInvalid {
                reason: "the credentials cannot be used with this URL".to_owned(),
            })?;
        }
        (_, None) => {}
    }
    let backend = Backend { configure_client: Some(Box::new(move |b| Ok(parts.build(b)))), configure_request: None };
    options.backend = Some(Arc::new(Mutex::new(backend)));
    Ok(Connection { transport: Box::new(transport), options: Some(Box::new(options)), ssh: None })
}
