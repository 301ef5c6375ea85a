//! OCI artifacts from a real registry (Debian's `docker-registry`) on loopback, and from one that misbehaves. Where the real
//! one is missing the tests fail.
#![allow(clippy::unwrap_used, reason = "a test that cannot be set up has failed")]

mod common;

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use common::files;
use driftless_render::tree::Tree as _;
use driftless_source::oci::{Layer, OciLimits, Pulled};
use driftless_source::{Auth, OciConfig, OciMirror, OciReference, OciUrl, Secret, SourceError};
use sha2::{Digest as _, Sha256};
use tokio_util::sync::CancellationToken;

const CONTENT: &str = "application/vnd.cncf.flux.content.v1.tar+gzip";
const CONFIG: &str = "application/vnd.cncf.flux.config.v1+json";
const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";

/// A running registry; stops when dropped.
struct Registry {
    child: Option<Child>,
    address: SocketAddr,
    dir: tempfile::TempDir,
    http: reqwest::Client,
    /// `user:password` for pushes.
    credentials: Option<(&'static str, &'static str)>,
}

impl Drop for Registry {
    fn drop(&mut self) {
        self.stop();
    }
}

impl Registry {
    async fn start(protected: bool) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        // The hash of `canary-password`, as htpasswd makes it.
        let hash = "ada:$2y$05$abcdefghijklmnopqrstuuTvmw3qcMpAvEgQGhbFMhqjD3R/evDDW\n";
        std::fs::write(dir.path().join("htpasswd"), hash).unwrap();
        let at = dir.path().display();
        let auth =
            if protected { format!("auth: {{htpasswd: {{realm: r, path: {at}/htpasswd}}}}\n") } else { String::new() };
        let text = format!(
            "version: 0.1\nlog: {{level: error, accesslog: {{disabled: true}}}}\nstorage: {{filesystem: {{rootdirectory: {at}/data}}}}\n\
             http: {{addr: '{address}'}}\n{auth}"
        );
        std::fs::write(dir.path().join("config.yml"), text).unwrap();
        let http = reqwest::Client::builder().no_proxy().build().unwrap();
        let credentials = protected.then_some(("ada", "canary-password"));
        let mut registry = Registry { child: None, address, dir, http, credentials };
        registry.up().await;
        registry
    }

    async fn up(&mut self) {
        let since = Instant::now();
        while self.child.is_none() || TcpStream::connect(self.address).is_err() {
            assert!(since.elapsed() < Duration::from_secs(60), "the registry does not come up");
            // Its port may be held for a moment, by a program that a neighbouring test is starting: it ends at once.
            let ended = self.child.as_mut().is_none_or(|child| !matches!(child.try_wait(), Ok(None)));
            if ended {
                self.child = Some(self.spawn());
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    fn spawn(&self) -> Child {
        let mut command = Command::new("docker-registry");
        command.arg("serve").arg(self.dir.path().join("config.yml"));
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        command.spawn().unwrap_or_else(|e| panic!("docker-registry cannot be run ({e}); install that package"))
    }

    fn stop(&mut self) {
        if let Some(mut child) = self.child.take() {
            drop(child.kill());
            drop(child.wait());
        }
    }

    fn config(&self, name: &str, reference: OciReference) -> OciConfig {
        config(self.address, name, reference)
    }

    async fn send(&self, request: reqwest::RequestBuilder) -> reqwest::Response {
        let request = match self.credentials {
            Some((user, password)) => request.basic_auth(user, Some(password)),
            None => request,
        };
        let answer = request.send().await.unwrap();
        assert!(answer.status().is_success(), "{} {}", answer.status(), answer.url());
        answer
    }

    async fn blob(&self, name: &str, bytes: &[u8]) -> String {
        let digest = digest(bytes);
        let started = self.send(self.http.post(format!("http://{}/v2/{name}/blobs/uploads/", self.address))).await;
        let location = started.headers()["location"].to_str().unwrap().to_owned();
        let joint = if location.contains('?') { '&' } else { '?' };
        let put = self.http.put(format!("{location}{joint}digest={digest}")).body(bytes.to_vec());
        self.send(put.header("content-type", "application/octet-stream")).await;
        digest
    }

    /// Pushes layers as `flux push artifact` does; gives the digest of the manifest.
    async fn push(&self, name: &str, tag: &str, layers: &[(&str, &[u8])]) -> String {
        let config = self.blob(name, b"{}").await;
        let mut described = Vec::new();
        for (media_type, bytes) in layers {
            let digest = self.blob(name, bytes).await;
            described.push(serde_json::json!({"mediaType": media_type, "digest": digest, "size": bytes.len()}));
        }
        let manifest = serde_json::json!({
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "config": {"mediaType": CONFIG, "digest": config, "size": 2},
            "layers": described,
            "annotations": {"org.opencontainers.image.revision": "main@sha1:0", "org.opencontainers.image.source": "https://example.org"},
        });
        self.put(name, tag, MANIFEST, &serde_json::to_vec(&manifest).unwrap()).await
    }

    async fn put(&self, name: &str, tag: &str, media_type: &str, manifest: &[u8]) -> String {
        let url = format!("http://{}/v2/{name}/manifests/{tag}", self.address);
        self.send(self.http.put(url).header("content-type", media_type).body(manifest.to_vec())).await;
        digest(manifest)
    }
}

fn digest(bytes: &[u8]) -> String {
    format!("sha256:{}", Sha256::digest(bytes).iter().map(|b| format!("{b:02x}")).collect::<String>())
}

fn config(address: SocketAddr, name: &str, reference: OciReference) -> OciConfig {
    let url = OciUrl::parse(&format!("oci://{address}/{name}")).unwrap();
    let mut config = OciConfig::new("flux-system/pod", url, reference);
    config.insecure = true;
    config.timeout = Duration::from_secs(120);
    config
}

/// An archive that the real `tar` makes.
fn archive(entries: &[(&str, &str)]) -> Vec<u8> {
    let dir = tempfile::tempdir().unwrap();
    for (path, text) in entries {
        let path = dir.path().join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        match text.strip_prefix("-> ") {
            Some(target) => std::os::unix::fs::symlink(target, path).unwrap(),
            None => std::fs::write(path, text).unwrap(),
        }
    }
    tar(&["-cz", "-C", dir.path().to_str().unwrap(), "."])
}

fn tar(args: &[&str]) -> Vec<u8> {
    let output = Command::new("tar").args(args).stdin(Stdio::null()).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    output.stdout
}

fn tag(name: &str) -> OciReference {
    OciReference::Tag(name.into())
}

fn semver(range: &str, filter: Option<&str>) -> OciReference {
    OciReference::Semver { range: range.into(), filter: filter.map(str::to_owned) }
}

fn open(dir: &Path, config: OciConfig) -> OciMirror {
    OciMirror::open(dir, config).unwrap()
}

async fn fetch(mirror: &OciMirror) -> Result<Pulled, SourceError> {
    mirror.fetch(&CancellationToken::new()).await
}

/// Fetches, expecting this error; whatever the failure, the last good revision must stay and no secret be shown.
async fn fails(mirror: &OciMirror, code: &str, words: &[&str]) {
    let before = mirror.current();
    let error = fetch(mirror).await.expect_err(code);
    assert_eq!(error.code(), code, "{error}");
    for word in words {
        assert!(error.to_string().contains(word), "no {word:?} in: {error}");
    }
    assert!(!format!("{error} {error:?}").contains("canary"), "{error}");
    assert_eq!((mirror.current(), &error.last_good), (before.clone(), &before));
    if let Some(before) = before {
        assert!(mirror.tree(&before).unwrap().list("").unwrap().is_some());
    }
}

fn text(mirror: &OciMirror, path: &str) -> Option<String> {
    let tree = mirror.tree(&mirror.current()?).unwrap();
    tree.read(path).unwrap().map(|b| String::from_utf8(b.to_vec()).unwrap())
}

#[tokio::test]
async fn a_tag_is_followed_by_its_digest() {
    let mut registry = Registry::start(false).await;
    let dir = tempfile::tempdir().unwrap();
    let first = registry
        .push(
            "org/pod",
            "latest",
            &[(CONTENT, &archive(&[("a.yaml", "1"), ("deep/b.yaml", "2"), ("link", "-> a.yaml")]))],
        )
        .await;
    let mirror = open(dir.path(), registry.config("org/pod", tag("latest")));
    assert_eq!(mirror.current(), None);
    let pulled = fetch(&mirror).await.unwrap();
    assert_eq!(pulled.revision.to_string(), format!("latest@{first}"), "as Flux writes it");
    assert!(pulled.changed && pulled.bytes > 0);
    assert_eq!(
        (text(&mirror, "deep/b.yaml").as_deref(), text(&mirror, "link")),
        (Some("2"), None),
        "links are left out"
    );
    let same = fetch(&mirror).await.unwrap();
    assert!(!same.changed && same.bytes == 0);

    let second = registry.push("org/pod", "latest", &[(CONTENT, &archive(&[("a.yaml", "moved")]))]).await;
    assert_eq!(fetch(&mirror).await.unwrap().revision.to_string(), format!("latest@{second}"));
    assert_eq!(text(&mirror, "a.yaml").as_deref(), Some("moved"));
    let third = registry.push("org/pod", "latest", &[(CONTENT, &archive(&[("a.yaml", "again")]))]).await;
    fetch(&mirror).await.unwrap();
    assert_eq!(files(dir.path()).iter().filter(|f| f.ends_with(".tgz")).count(), 2, "this one and the one before");

    // Down, and up again, and a new process in between.
    registry.stop();
    fails(&mirror, "HostUnreachable", &["oci://127.0.0.1", "refused"]).await;
    drop(mirror);
    let mirror = open(dir.path(), registry.config("org/pod", tag("latest")));
    assert_eq!(mirror.current().unwrap().to_string(), format!("latest@{third}"));
    assert_eq!(text(&mirror, "a.yaml").as_deref(), Some("again"));
    fails(&mirror, "HostUnreachable", &["it is tried again"]).await;
    registry.up().await;
    assert!(!fetch(&mirror).await.unwrap().changed);
    drop(mirror);

    // Another reference in the same folder begins anew; a damaged layer is fetched again.
    let pinned = open(dir.path(), registry.config("org/pod", OciReference::Digest(first.clone())));
    assert_eq!(pinned.current(), None);
    assert_eq!(fetch(&pinned).await.unwrap().revision.to_string(), first);
    assert_eq!(text(&pinned, "a.yaml").as_deref(), Some("1"));
    drop(pinned);
    for file in files(dir.path()).iter().filter(|f| f.ends_with(".tgz")) {
        std::fs::write(dir.path().join(file), "spoilt").unwrap();
    }
    let pinned = open(dir.path(), registry.config("org/pod", OciReference::Digest(first)));
    assert_eq!(pinned.current(), None);
    assert!(fetch(&pinned).await.unwrap().changed);
}

#[tokio::test]
async fn a_range_of_versions_takes_the_highest_that_passes_the_filter() {
    let registry = Registry::start(false).await;
    for tag in ["1.0.0", "1.2.0", "v1.10.0", "2.0.0-rc.1", "2.0.0-rc.2", "latest", "nightly-9.9.9"] {
        registry.push("org/pod", tag, &[(CONTENT, &archive(&[("tag", tag)]))]).await;
    }
    for (range, filter, expected) in [
        ("*", None, "v1.10.0"),
        ("1.2.x", None, "1.2.0"),
        (">=1.0.0", Some("^[0-9]"), "1.2.0"),
        (">= 1.0.0-0", Some(".*-rc.*"), "2.0.0-rc.2"),
    ] {
        let dir = tempfile::tempdir().unwrap();
        let mirror = open(dir.path(), registry.config("org/pod", semver(range, filter)));
        assert_eq!(fetch(&mirror).await.unwrap().revision.reference, expected, "{range} {filter:?}");
        assert_eq!(text(&mirror, "tag").as_deref(), Some(expected));
    }
    let dir = tempfile::tempdir().unwrap();
    let mirror = open(dir.path(), registry.config("org/pod", semver(">=5.0.0", None)));
    fails(&mirror, "ReferenceNotFound", &["in the range >=5.0.0", "it has 1.0.0"]).await;
    registry.push("org/pod", "5.1.0", &[(CONTENT, &archive(&[("tag", "new")]))]).await;
    assert_eq!(fetch(&mirror).await.unwrap().revision.reference, "5.1.0");
}

#[tokio::test]
async fn what_is_not_there_or_of_no_use_says_so() {
    let registry = Registry::start(false).await;
    let good = archive(&[("a.yaml", "1")]);
    registry.push("org/pod", "v1", &[("text/plain", b"hello"), (CONTENT, &good)]).await;
    let of = |name: &str, reference: OciReference| {
        let dir = tempfile::tempdir().unwrap();
        (open(dir.path(), registry.config(name, reference)), dir)
    };
    let (mirror, _dir) = of("org/pod", tag("v2"));
    fails(&mirror, "ReferenceNotFound", &["no tag v2; it has v1"]).await;
    let (mirror, _dir) = of("org/nothing", tag("v2"));
    fails(&mirror, "RepositoryNotFound", &["oci://127.0.0.1"]).await;
    let (mirror, _dir) = of("org/pod", OciReference::Digest(format!("sha256:{}", "0".repeat(64))));
    fails(&mirror, "ReferenceNotFound", &["digest sha256:000"]).await;
    let (mirror, _dir) = of("org/pod", tag("v1"));
    fails(&mirror, "ArtifactUnusable", &["gzip", "flux push artifact"]).await;

    let dir = tempfile::tempdir().unwrap();
    let mut chosen = registry.config("org/pod", tag("v1"));
    chosen.layer = Layer { media_type: Some(CONTENT.into()) };
    fetch(&open(dir.path(), chosen.clone())).await.unwrap();
    chosen.layer = Layer { media_type: Some("application/none".into()) };
    fails(&open(dir.path(), chosen), "ArtifactUnusable", &["application/none", "it has text/plain"]).await;

    // Whatever a good artifact is followed by, it stays.
    registry.push("org/moving", "v1", &[(CONTENT, &good)]).await;
    let dir = tempfile::tempdir().unwrap();
    let mut small = registry.config("org/moving", tag("v1"));
    small.limits = OciLimits { layer_bytes: 4096, ..OciLimits::default() };
    small.limits.archive.file = 1000;
    let mirror = open(dir.path(), small);
    fetch(&mirror).await.unwrap();
    let escaping = {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("x"), "x").unwrap();
        tar(&["-cz", "-C", dir.path().to_str().unwrap(), "--transform", "s,^x$,../../x,", "-P", "x"])
    };
    let noise = common::noise(1, 10_000);
    for (layers, words) in [
        (vec![(CONTENT, escaping)], "no path inside it"),
        (vec![(CONTENT, archive(&[("big", &"0".repeat(1001))]))], "1000 bytes in one file"),
        (vec![(CONTENT, archive(&[("big", &noise)]))], "more than the limit of 4096"),
        (vec![(CONTENT, good[..good.len() / 2].to_vec())], "gzip"),
        (vec![], "no layer"),
    ] {
        let layers: Vec<(&str, &[u8])> = layers.iter().map(|(m, b)| (*m, b.as_slice())).collect();
        registry.push("org/moving", "v1", &layers).await;
        fails(&mirror, "ArtifactUnusable", &[words]).await;
        assert_eq!(text(&mirror, "a.yaml").as_deref(), Some("1"), "{words}");
    }
    registry.push("org/moving", "v1", &[(CONTENT, &archive(&[("a.yaml", "well again")]))]).await;
    fetch(&mirror).await.unwrap();
    assert_eq!(text(&mirror, "a.yaml").as_deref(), Some("well again"));
}

#[tokio::test]
async fn credentials_are_sent_to_whoever_asks_for_them_and_shown_to_nobody() {
    let registry = Registry::start(true).await;
    registry.push("org/pod", "v1", &[(CONTENT, &archive(&[("a.yaml", "1")]))]).await;
    let of = |auth: Auth| {
        let dir = tempfile::tempdir().unwrap();
        let config = OciConfig { auth, ..registry.config("org/pod", tag("v1")) };
        (open(dir.path(), config), dir)
    };
    let basic = |password: &str| Auth::Basic { user: "ada".into(), password: Secret::new(password) };
    let (mirror, _dir) = of(Auth::None);
    fails(&mirror, "AuthRefused", &["asks for credentials", "HTTP 401"]).await;
    let (mirror, _dir) = of(basic("canary-wrong"));
    fails(&mirror, "AuthRefused", &["refused the credentials"]).await;
    let (mirror, _dir) = of(basic("canary-password"));
    fetch(&mirror).await.unwrap();
    assert_eq!(text(&mirror, "a.yaml").as_deref(), Some("1"));
    let remote = OciUrl::parse("oci://example.org/a").unwrap();
    let config =
        OciConfig { insecure: true, auth: basic("canary-password"), ..OciConfig::new("a/b", remote, tag("v1")) };
    let dir = tempfile::tempdir().unwrap();
    let error = OciMirror::open(dir.path(), config).unwrap_err();
    assert_eq!(error.code(), "InsecureCredentials");
    assert!(!format!("{error} {error:?}").contains("canary"));
}

/// A registry that answers from a list of routes, and remembers what it was asked.
struct Scripted {
    address: SocketAddr,
    seen: Arc<Mutex<Vec<String>>>,
}

/// Method and path, `Authorization`; status line with headers, body.
type Routes = Arc<dyn Fn(&str, &str) -> (String, Vec<u8>) + Send + Sync>;

impl Scripted {
    fn start(routes: impl Fn(&SocketAddr) -> Routes) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let routes = routes(&address);
        let seen: Arc<Mutex<Vec<String>>> = Arc::default();
        let log = seen.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let Ok(mut stream) = stream else { break };
                let mut reader = BufReader::new(stream.try_clone().unwrap());
                let mut line = String::new();
                drop(reader.read_line(&mut line));
                let mut authorization = String::new();
                loop {
                    let mut header = String::new();
                    if reader.read_line(&mut header).unwrap_or(0) < 3 {
                        break;
                    }
                    if let Some((name, value)) = header.split_once(':')
                        && name.eq_ignore_ascii_case("authorization")
                    {
                        value.trim().clone_into(&mut authorization);
                    }
                }
                let asked = line.rsplit_once(' ').map_or("", |(asked, _)| asked).to_owned();
                log.lock().unwrap().push(format!("{asked} [{authorization}]"));
                let (head, body) = routes(&asked, &authorization);
                let length = if head.contains("Content-Length") {
                    String::new()
                } else {
                    format!("Content-Length: {}\r\n", body.len())
                };
                drop(write!(stream, "HTTP/1.1 {head}\r\n{length}Connection: close\r\n\r\n"));
                if !asked.starts_with("HEAD") {
                    drop(stream.write_all(&body));
                }
                drop(stream.flush());
                drop(stream.shutdown(std::net::Shutdown::Write));
                drop(stream.read(&mut [0]));
            }
        });
        Scripted { address, seen }
    }

    fn mirror(&self, auth: Auth) -> (OciMirror, tempfile::TempDir) {
        let dir = tempfile::tempdir().unwrap();
        let config = OciConfig { auth, ..config(self.address, "org/pod", tag("v1")) };
        (open(dir.path(), config), dir)
    }
}

/// A manifest and its layer.
fn artifact() -> (Vec<u8>, Vec<u8>) {
    let layer = archive(&[("a.yaml", "1")]);
    let manifest =
        serde_json::json!({"layers": [{"mediaType": CONTENT, "digest": digest(&layer), "size": layer.len()}]});
    (serde_json::to_vec(&manifest).unwrap(), layer)
}

#[tokio::test]
async fn a_token_is_fetched_and_the_password_goes_nowhere_else() {
    let scripted = Scripted::start(|address| {
        let address = *address;
        let (manifest, layer) = artifact();
        Arc::new(move |asked, authorization| {
            if asked.starts_with("GET /token") {
                let good = authorization == "Basic YWRhOmNhbmFyeQ==";
                let body = if good { &br#"{"access_token":"canary-token"}"#[..] } else { b"{}" };
                return (if good { "200 OK" } else { "401 No" }.to_owned(), body.to_vec());
            }
            if asked.starts_with("GET /elsewhere") {
                return ("200 OK".to_owned(), layer.clone());
            }
            if authorization != "Bearer canary-token" {
                let challenge = format!(
                    "Bearer realm=\"http://{address}/token\",service=\"reg\",scope=\"repository:org/pod:pull\""
                );
                return (format!("401 No\r\nWWW-Authenticate: {challenge}"), Vec::new());
            }
            if asked.contains("/manifests/") {
                return (format!("200 OK\r\nDocker-Content-Digest: {}", digest(&manifest)), manifest.clone());
            }
            // Layers lie elsewhere, on another host by name.
            (format!("307 There\r\nLocation: http://localhost:{}/elsewhere", address.port()), Vec::new())
        })
    });
    let basic = Auth::Basic { user: "ada".into(), password: Secret::new("canary") };
    let (mirror, _dir) = scripted.mirror(basic);
    fetch(&mirror).await.unwrap();
    assert_eq!(text(&mirror, "a.yaml").as_deref(), Some("1"));
    let seen = scripted.seen.lock().unwrap().clone();
    let with_password: Vec<&String> = seen.iter().filter(|s| s.contains("YWRhOmNhbmFyeQ")).collect();
    assert!(
        with_password.len() == 1 && with_password[0].starts_with("GET /token?service=reg&scope=repository"),
        "{seen:?}"
    );
    assert!(
        seen.iter().any(|s| s == "GET /elsewhere []"),
        "nothing secret follows a redirect to another host: {seen:?}"
    );
    let wrong = Auth::Basic { user: "ada".into(), password: Secret::new("canary-wrong") };
    let (mirror, _dir) = scripted.mirror(wrong);
    fails(&mirror, "AuthRefused", &["HTTP 401"]).await;
    let (mirror, _dir) = scripted.mirror(Auth::Bearer(Secret::new("canary-token")));
    fetch(&mirror).await.unwrap();
}

#[tokio::test]
async fn what_a_registry_sends_is_checked_against_its_digest() {
    let (manifest, layer) = artifact();
    let spoilt = |bytes: &[u8]| {
        let mut bytes = bytes.to_vec();
        let last = bytes.len() - 1;
        bytes[last] ^= 1;
        bytes
    };
    let huge = |what: usize| format!("200 OK\r\nContent-Length: {what}");
    let ok = || "200 OK".to_owned();
    let named = format!("200 OK\r\nDocker-Content-Digest: {}", digest(&manifest));
    type Answer = (String, Vec<u8>);
    let cases: Vec<(&str, &str, Answer, Answer)> = vec![
        ("Corrupt", "manifest that arrived", (named.clone(), spoilt(&manifest)), (ok(), layer.clone())),
        ("Corrupt", "layer that arrived", (named.clone(), manifest.clone()), (ok(), spoilt(&layer))),
        ("Corrupt", "layer that arrived", (named.clone(), manifest.clone()), (ok(), layer[..layer.len() - 1].to_vec())),
        ("PackTooLarge", "more than the limit", (named.clone(), manifest.clone()), (ok(), [&layer[..], b"x"].concat())),
        ("PackTooLarge", "more than the limit", (named.clone(), manifest.clone()), (huge(1 << 40), layer.clone())),
        (
            "PackTooLarge",
            "limit of 4194304",
            (format!("{named}\r\nContent-Length: 5000000"), vec![b' '; 5_000_000]),
            (ok(), Vec::new()),
        ),
        ("Corrupt", "lacks the layer", (named.clone(), manifest.clone()), ("404 No".into(), Vec::new())),
        ("HostFailed", "HTTP 503", ("503 Busy".into(), Vec::new()), (ok(), Vec::new())),
        ("HostFailed", "less often", ("429 Slow".into(), Vec::new()), (ok(), Vec::new())),
        (
            "ArtifactUnusable",
            "no sha256",
            ("200 OK\r\nDocker-Content-Digest: md5:x".into(), manifest.clone()),
            (ok(), Vec::new()),
        ),
    ];
    for (code, words, (head, body), (layer_head, layer_body)) in cases {
        let scripted = Scripted::start(|_| {
            let (head, body, layer_head, layer_body) =
                (head.clone(), body.clone(), layer_head.clone(), layer_body.clone());
            Arc::new(move |asked, _| {
                if asked.contains("/manifests/") {
                    (head.clone(), body.clone())
                } else {
                    (layer_head.clone(), layer_body.clone())
                }
            })
        });
        let (mirror, _dir) = scripted.mirror(Auth::None);
        fails(&mirror, code, &[words]).await;
        assert_eq!(mirror.current(), None);
    }
    // Not a registry at all.
    let page = Scripted::start(|_| Arc::new(|_, _| ("200 OK".into(), b"<html>welcome</html>".to_vec())));
    let dir = tempfile::tempdir().unwrap();
    let mirror = open(dir.path(), config(page.address, "org/pod", semver("*", None)));
    fails(&mirror, "HostFailed", &["does not answer as an OCI registry"]).await;
    // One that never answers.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let slow =
        OciConfig { timeout: Duration::from_millis(200), ..config(silent.local_addr().unwrap(), "org/pod", tag("v1")) };
    let dir = tempfile::tempdir().unwrap();
    fails(&open(dir.path(), slow), "Timeout", &["0.2 s"]).await;
}

#[test]
fn what_cannot_be_asked_for_is_refused_at_once() {
    let address: SocketAddr = "127.0.0.1:1".parse().unwrap();
    for (reference, words) in [
        (tag("a b"), "name of a tag"),
        (tag("../x"), "name of a tag"),
        (semver("nonsense", None), "range"),
        (semver("*", Some("(")), "regular expression"),
        (OciReference::Digest("sha256:12".into()), "digest"),
    ] {
        let dir = tempfile::tempdir().unwrap();
        let error = OciMirror::open(dir.path(), config(address, "org/pod", reference)).unwrap_err();
        assert_eq!(error.code(), "ConfigInvalid");
        assert!(error.to_string().contains(words), "{error}");
    }
    let dir = tempfile::tempdir().unwrap();
    let _one = open(dir.path(), config(address, "org/pod", tag("v1")));
    assert_eq!(OciMirror::open(dir.path(), config(address, "org/pod", tag("v1"))).unwrap_err().code(), "Disk");
}
