//! The part of the distribution API that pulling needs, with every answer bounded before it is kept.
//!
//! A library for it would bring its own client and keep whatever a registry sends; what is needed is five requests and the
//! token dance, over the client that Git has already.

use std::collections::BTreeMap;
use std::time::Duration;

use base64::Engine as _;
use reqwest::header::{ACCEPT, AUTHORIZATION, HeaderMap, LINK, WWW_AUTHENTICATE};
use reqwest::{Method, Response, StatusCode, Url};
use serde::Deserialize;
use sha2::{Digest as _, Sha256};

use super::address::is_loopback;
use super::{OciConfig, manifest};
use crate::config::Auth;
use crate::error::Cause;
use crate::fetch::{Parts, Peer};

/// A registry that does not even accept a connection in this time is down.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(20);
/// Bytes of a manifest (what registries themselves take).
const MANIFEST: u64 = 4 << 20;
/// Bytes of one page of tags, of a token, of an error.
const SMALL: u64 = 1 << 20;
/// Tags of a repository.
const TAGS: usize = 10_000;

/// One conversation with a registry.
pub(super) struct Client<'a> {
    config: &'a OciConfig,
    http: reqwest::Client,
    base: String,
    /// What was asked for last time: it is tried first.
    authorization: std::sync::Mutex<Option<String>>,
}

/// The answer about a manifest.
pub(super) enum Found<T> {
    /// It is there.
    Yes(T),
    /// The repository has no such tag or digest.
    No,
}

#[derive(Deserialize)]
struct Token {
    token: Option<String>,
    access_token: Option<String>,
}

#[derive(Deserialize)]
struct Tags {
    tags: Option<Vec<String>>,
}

#[derive(Deserialize, Default)]
struct Refusal {
    #[serde(default)]
    errors: Vec<RefusalEntry>,
}

#[derive(Deserialize)]
struct RefusalEntry {
    #[serde(default)]
    code: String,
}

impl<'a> Client<'a> {
    pub(super) fn new(config: &'a OciConfig) -> Result<Self, Cause> {
        let parts = Parts::of(
            config.ca.as_deref(),
            config.client_certificate.as_ref(),
            config.proxy.as_ref(),
            config.insecure,
            config.timeout,
        )?;
        let here = config.url.is_loopback();
        let redirects = reqwest::redirect::Policy::custom(move |attempt| {
            let downgrade =
                attempt.url().scheme() != "https" && attempt.previous().iter().any(|u| u.scheme() == "https");
            let inwards = !here && attempt.url().host_str().is_some_and(is_loopback);
            if downgrade || inwards || attempt.previous().len() > 5 { attempt.stop() } else { attempt.follow() }
        });
        let http = parts.build_async(reqwest::Client::builder().redirect(redirects).connect_timeout(CONNECT_TIMEOUT));
        let http =
            http.build().map_err(|_| Cause::ConfigInvalid { reason: "no https client can be made of it".into() })?;
        let authorization = match &config.auth {
            Auth::Bearer(token) => Some(format!("Bearer {}", token.expose())),
            _ => None,
        };
        let base = config.url.base(config.insecure);
        Ok(Self { config, http, base, authorization: std::sync::Mutex::new(authorization) })
    }

    /// Every tag of the repository.
    pub(super) async fn tags(&self) -> Result<Vec<String>, Cause> {
        let mut out = Vec::new();
        let mut next = Some(format!("{}/tags/list?n=1000", self.base));
        while let Some(url) = next {
            let mut answer = self.ask(Method::GET, &url, None).await?;
            if answer.status() == StatusCode::NOT_FOUND {
                return Err(Cause::RepositoryNotFound);
            }
            self.succeeded(&mut answer).await?;
            next = self.next_page(&url, answer.headers());
            let page: Tags = parse(&self.body(&mut answer, SMALL).await?)?;
            out.extend(page.tags.unwrap_or_default());
            if out.len() > TAGS {
                return Err(Cause::TooManyRefs { limit: TAGS });
            }
        }
        Ok(out)
    }

    /// `Link: </v2/...>; rel="next"`, on the same registry only.
    fn next_page(&self, from: &str, headers: &HeaderMap) -> Option<String> {
        let link = headers.get(LINK)?.to_str().ok()?;
        let (target, rest) = link.strip_prefix('<')?.split_once('>')?;
        if !rest.contains("next") {
            return None;
        }
        let next = Url::parse(from).ok()?.join(target).ok()?;
        next.as_str().starts_with(&self.base).then(|| next.to_string())
    }

    /// The digest behind a tag.
    pub(super) async fn digest(&self, tag: &str) -> Result<Found<String>, Cause> {
        let url = format!("{}/manifests/{tag}", self.base);
        let answer = self.ask(Method::HEAD, &url, Some(manifest::ACCEPTED)).await?;
        let named = answer.headers().get("docker-content-digest").and_then(|d| d.to_str().ok()).map(str::to_owned);
        match (answer.status(), named) {
            (StatusCode::OK, Some(digest)) => Ok(Found::Yes(digest)),
            // Some registries answer a HEAD with nothing of use.
            _ => Ok(match self.manifest(tag).await? {
                Found::Yes(bytes) => Found::Yes(format!("sha256:{}", hex(&Sha256::digest(&bytes)))),
                Found::No => Found::No,
            }),
        }
    }

    /// A manifest by tag or digest.
    pub(super) async fn manifest(&self, reference: &str) -> Result<Found<Vec<u8>>, Cause> {
        let url = format!("{}/manifests/{reference}", self.base);
        let mut answer = self.ask(Method::GET, &url, Some(manifest::ACCEPTED)).await?;
        if answer.status() == StatusCode::NOT_FOUND {
            let said: Refusal = parse(&self.body(&mut answer, SMALL).await?).unwrap_or_default();
            let unknown = said.errors.iter().any(|e| e.code == "NAME_UNKNOWN");
            return if unknown { Err(Cause::RepositoryNotFound) } else { Ok(Found::No) };
        }
        self.succeeded(&mut answer).await?;
        Ok(Found::Yes(self.body(&mut answer, MANIFEST).await?))
    }

    /// A blob of exactly this length.
    pub(super) async fn blob(&self, digest: &str, size: u64) -> Result<Vec<u8>, Cause> {
        let url = format!("{}/blobs/{digest}", self.base);
        let mut answer = self.ask(Method::GET, &url, None).await?;
        if answer.status() == StatusCode::NOT_FOUND {
            return Err(Cause::Corrupt {
                reason: format!("the registry lacks the layer {digest} of its own manifest"),
            });
        }
        self.succeeded(&mut answer).await?;
        self.body(&mut answer, size).await
    }

    /// Sends a request; gets a token first where one is asked for.
    async fn ask(&self, method: Method, url: &str, accept: Option<&str>) -> Result<Response, Cause> {
        let known = self.known();
        let answer = self.send(method.clone(), url, accept, known.as_deref()).await?;
        if answer.status() != StatusCode::UNAUTHORIZED {
            return Ok(answer);
        }
        let challenge = answer.headers().get(WWW_AUTHENTICATE).and_then(|h| h.to_str().ok()).unwrap_or_default();
        let Some(authorization) = self.answer(challenge).await? else { return Ok(answer) };
        if known.as_deref() == Some(&authorization) {
            return Ok(answer);
        }
        *self.authorization.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = Some(authorization.clone());
        self.send(method, url, accept, Some(&authorization)).await
    }

    fn known(&self) -> Option<String> {
        self.authorization.lock().unwrap_or_else(std::sync::PoisonError::into_inner).clone()
    }

    async fn send(
        &self,
        method: Method,
        url: &str,
        accept: Option<&str>,
        authorization: Option<&str>,
    ) -> Result<Response, Cause> {
        let mut request = self.http.request(method, url);
        if let Some(accept) = accept {
            request = request.header(ACCEPT, accept);
        }
        if let Some(authorization) = authorization {
            request = request.header(AUTHORIZATION, authorization);
        }
        request.send().await.map_err(|e| self.peer().classify(&e.without_url()))
    }

    /// What to send for a challenge. `None`: there is nothing to answer with.
    async fn answer(&self, challenge: &str) -> Result<Option<String>, Cause> {
        let (scheme, parameters) = challenge.split_once(' ').unwrap_or((challenge, ""));
        let basic = self.config.basic().map(|(user, password)| {
            let pair = zeroize::Zeroizing::new(format!("{user}:{}", password.expose()));
            format!("Basic {}", base64::engine::general_purpose::STANDARD.encode(pair.as_bytes()))
        });
        if scheme.eq_ignore_ascii_case("basic") {
            return Ok(basic);
        }
        if !scheme.eq_ignore_ascii_case("bearer") || matches!(self.config.auth, Auth::Bearer(_)) {
            return Ok(None);
        }
        let parameters = parameters_of(parameters);
        let unusable =
            |why: &str| Cause::HostFailed { reason: format!("it asks for a token from an address that {why}") };
        let realm = parameters.get("realm").and_then(|r| Url::parse(r).ok());
        let mut realm = realm.ok_or_else(|| unusable("cannot be read"))?;
        if realm.scheme() != "https" && !(self.config.insecure && realm.scheme() == "http") {
            return Err(unusable("is not https"));
        }
        if !self.config.url.is_loopback() && realm.host_str().is_some_and(is_loopback) {
            return Err(unusable("is the hub's own machine"));
        }
        let scope = format!("repository:{}:pull", self.config.url.name());
        {
            let mut query = realm.query_pairs_mut();
            if let Some(service) = parameters.get("service") {
                query.append_pair("service", service);
            }
            query.append_pair("scope", parameters.get("scope").unwrap_or(&scope));
        }
        let mut answer = self.send(Method::GET, realm.as_str(), None, basic.as_deref()).await?;
        self.succeeded(&mut answer).await?;
        let token: Token = parse(&self.body(&mut answer, SMALL).await?)?;
        Ok(token.token.or(token.access_token).map(|token| format!("Bearer {token}")))
    }

    async fn succeeded(&self, answer: &mut Response) -> Result<(), Cause> {
        let status = answer.status();
        let sent = self.config.has_credentials();
        match status.as_u16() {
            200..=299 => Ok(()),
            code @ (401 | 403) => {
                // Registries also say so of repositories that do not exist.
                Err(Cause::AuthRefused { sent, reason: format!("HTTP {code}") })
            }
            300..=399 => Err(Cause::Redirected { to: String::new() }),
            404 | 410 => Err(Cause::RepositoryNotFound),
            407 => Err(Cause::ProxyRefused { reason: "HTTP 407, it asks for credentials".to_owned() }),
            429 => Err(Cause::HostFailed { reason: "HTTP 429, it asks us to come less often".to_owned() }),
            code => Err(Cause::HostFailed { reason: format!("HTTP {code}") }),
        }
    }

    /// The whole body, which may not be longer than `limit`.
    async fn body(&self, answer: &mut Response, limit: u64) -> Result<Vec<u8>, Cause> {
        let too_large = || Cause::PackTooLarge { limit };
        if answer.content_length().is_some_and(|length| length > limit) {
            return Err(too_large());
        }
        let mut out = Vec::new();
        while let Some(chunk) = answer.chunk().await.map_err(|e| self.peer().classify(&e.without_url()))? {
            if out.len() as u64 + chunk.len() as u64 > limit {
                return Err(too_large());
            }
            out.extend_from_slice(&chunk);
        }
        Ok(out)
    }

    fn peer(&self) -> Peer<'_> {
        Peer {
            host: self.config.url.host().to_owned(),
            sent: self.config.has_credentials(),
            proxy: self.config.proxy.as_ref().map(|p| p.url.origin()),
            secrets: self.config.secrets(),
        }
    }
}

fn parse<T: for<'de> Deserialize<'de>>(bytes: &[u8]) -> Result<T, Cause> {
    let wrong = |_| Cause::HostFailed { reason: "it does not answer as an OCI registry".to_owned() };
    serde_json::from_slice(bytes).map_err(wrong)
}

/// `key="value",key=value`.
fn parameters_of(mut text: &str) -> BTreeMap<String, String> {
    let mut out = BTreeMap::new();
    while let Some((key, rest)) = text.split_once('=') {
        let key = key.trim_matches(|c: char| c == ',' || c.is_whitespace()).to_ascii_lowercase();
        let (value, after) = match rest.strip_prefix('"') {
            Some(quoted) => quoted.split_once('"').unwrap_or((quoted, "")),
            None => rest.split_once(',').unwrap_or((rest, "")),
        };
        out.insert(key, value.to_owned());
        text = after;
    }
    out
}

pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_challenge_is_read() {
        let got = parameters_of(
            r#"realm="https://auth.example.org/token?a=b",service="x y", scope="repository:a:pull,push""#,
        );
        let pairs: Vec<(&str, &str)> = got.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
        assert_eq!(
            pairs,
            [("realm", "https://auth.example.org/token?a=b"), ("scope", "repository:a:pull,push"), ("service", "x y")]
        );
        assert!(parameters_of("nonsense").is_empty());
    }
}
