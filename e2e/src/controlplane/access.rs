//! Ways into a cluster: kubeconfigs and clients, for the administrator or with a token only.

use anyhow::{Context, Result};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use k8s_openapi::api::authentication::v1::{TokenRequest, TokenRequestSpec};
use k8s_openapi::api::core::v1::ServiceAccount;
use kube::api::PostParams;
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Api, Client, Config};
use serde_json::json;

use crate::certs::Identity;

/// How long a requested token lives: the API server's default, well beyond any test.
const TOKEN_SECONDS: i64 = 3600;

/// One way into one cluster. Holds secrets: its `Debug` shows none.
#[derive(Clone)]
pub struct Access {
    cluster: String,
    server: String,
    authority: String,
    credentials: Credentials,
}

#[derive(Clone)]
enum Credentials {
    Certificate(Identity),
    Token(String),
}

impl std::fmt::Debug for Access {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let kind = match self.credentials {
            Credentials::Certificate(_) => "certificate",
            Credentials::Token(_) => "token",
        };
        f.debug_struct("Access").field("server", &self.server).field("with", &kind).finish_non_exhaustive()
    }
}

impl Access {
    pub(super) fn with_certificate(cluster: &str, server: String, authority: &str, identity: &Identity) -> Self {
        let credentials = Credentials::Certificate(identity.clone());
        Self { cluster: cluster.to_owned(), server, authority: authority.to_owned(), credentials }
    }

    pub(super) fn with_token(cluster: &str, server: String, authority: &str, token: &str) -> Self {
        let credentials = Credentials::Token(token.to_owned());
        Self { cluster: cluster.to_owned(), server, authority: authority.to_owned(), credentials }
    }

    /// The same credentials by another address, for instance that of a proxy with a certificate of its own.
    #[must_use]
    pub fn through(&self, server: String, authority: &str) -> Self {
        Self { server, authority: authority.to_owned(), ..self.clone() }
    }

    /// The bearer token, if this is a way in by token.
    pub fn token(&self) -> Option<&str> {
        match &self.credentials {
            Credentials::Token(token) => Some(token),
            Credentials::Certificate(_) => None,
        }
    }

    /// The cluster's authority, PEM.
    pub fn authority(&self) -> &str {
        &self.authority
    }

    /// `https://127.0.0.1:<port>`.
    pub fn server(&self) -> &str {
        &self.server
    }

    /// A whole kubeconfig, self-contained.
    pub fn kubeconfig(&self) -> String {
        let name = self.cluster.as_str();
        let encode = |pem: &str| STANDARD.encode(pem);
        let user = match &self.credentials {
            Credentials::Certificate(identity) => json!({
                "client-certificate-data": encode(&identity.certificate),
                "client-key-data": encode(&identity.key),
            }),
            Credentials::Token(token) => json!({ "token": token }),
        };
        // JSON, which every reader of YAML takes.
        let config = json!({
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": name,
            "clusters": [{ "name": name, "cluster": {
                "server": self.server,
                "certificate-authority-data": encode(&self.authority),
            } }],
            "users": [{ "name": name, "user": user }],
            "contexts": [{ "name": name, "context": { "cluster": name, "user": name } }],
        });
        format!("{config:#}\n")
    }

    /// A kube configuration with the library's own retries off: a test must see every refusal.
    ///
    /// # Errors
    /// Does not happen with what this module writes.
    pub async fn config(&self) -> Result<Config> {
        let parsed = Kubeconfig::from_yaml(&self.kubeconfig()).context("read our own kubeconfig")?;
        let config = Config::from_custom_kubeconfig(parsed, &KubeConfigOptions::default()).await;
        let mut config = config.context("load our own kubeconfig")?;
        config.default_retry = false;
        // A proxy of the environment has no business on loopback.
        config.proxy_url = None;
        Ok(config)
    }

    /// A client.
    ///
    /// # Errors
    /// The TLS library refuses the certificates.
    pub async fn client(&self) -> Result<Client> {
        Client::try_from(self.config().await?).with_context(|| format!("make a client for {}", self.server))
    }
}

/// Asks for a token of a service account, as a pod's volume would carry it.
pub(super) async fn request_token(client: Client, namespace: &str, account: &str) -> Result<String> {
    let request = TokenRequest {
        spec: Some(TokenRequestSpec { expiration_seconds: Some(TOKEN_SECONDS), ..TokenRequestSpec::default() }),
        ..TokenRequest::default()
    };
    let accounts: Api<ServiceAccount> = Api::namespaced(client, namespace);
    let answer = accounts.create_token_request(account, &PostParams::default(), &request).await;
    let answer = answer.with_context(|| format!("request a token for service account {namespace}/{account}"))?;
    let token = answer.status.and_then(|status| status.token);
    token.with_context(|| format!("no token in the answer for service account {namespace}/{account}"))
}
