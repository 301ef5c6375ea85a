//! A Git host on loopback: one thread per connection, `git http-backend` behind it, and ways to misbehave.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use base64::Engine as _;
use rustls::pki_types::PrivateKeyDer;

/// How the host behaves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Mood {
    Normal,
    /// Answers with this status.
    Status(u16),
    /// Sends to this address.
    Redirect(String),
    /// Accepts requests for a pack and sends this many bytes of the answer, then ends the connection.
    CutPack(usize),
    /// Accepts requests for a pack and never answers.
    Stall,
    /// Sends this many bytes of a pack and then nothing, until the other side is gone.
    HalfPack(usize),
    /// Flips a byte of each pack.
    SpoilPack,
    /// Answers with a web page.
    Page,
    /// Sends an endless list of references.
    EndlessRefs,
    /// Answers 500 with the request's own headers in the body.
    Echo,
}

struct Shared {
    root: PathBuf,
    mood: Mutex<Mood>,
    /// `user:password` or a bearer token in `Authorization`.
    wants: Mutex<Option<String>>,
    /// The last `Proxy-Authorization` that arrived.
    proxied: Mutex<Option<String>>,
    tls: Option<Arc<rustls::ServerConfig>>,
    stop: AtomicBool,
    requests: AtomicUsize,
}

/// A running host; stops when dropped.
pub struct Host {
    shared: Arc<Shared>,
    address: SocketAddr,
    thread: Option<JoinHandle<()>>,
}

impl Host {
    pub fn start(root: impl Into<PathBuf>) -> Self {
        Self::with(root.into(), None)
    }

    pub fn start_tls(root: impl Into<PathBuf>, tls: Arc<rustls::ServerConfig>) -> Self {
        Self::with(root.into(), Some(tls))
    }

    fn with(root: PathBuf, tls: Option<Arc<rustls::ServerConfig>>) -> Self {
        let shared = Arc::new(Shared {
            root,
            mood: Mutex::new(Mood::Normal),
            wants: Mutex::new(None),
            proxied: Mutex::new(None),
            tls,
            stop: AtomicBool::new(false),
            requests: AtomicUsize::new(0),
        });
        let mut host = Host { shared, address: (Ipv4Addr::LOCALHOST, 0).into(), thread: None };
        host.up();
        host
    }

    /// Listens, on the port of before if there was one.
    pub fn up(&mut self) {
        self.shared.stop.store(false, Ordering::SeqCst);
        let listener = listen(self.address);
        self.address = listener.local_addr().unwrap();
        let shared = self.shared.clone();
        self.thread = Some(std::thread::spawn(move || {
            let mut connections = Vec::new();
            for stream in listener.incoming() {
                if shared.stop.load(Ordering::SeqCst) {
                    break;
                }
                let (Ok(stream), shared) = (stream, shared.clone()) else { continue };
                connections.push(std::thread::spawn(move || drop(serve(stream, &shared))));
            }
            for connection in connections {
                drop(connection.join());
            }
        }));
    }

    /// Closes the port.
    pub fn down(&mut self) {
        self.shared.stop.store(true, Ordering::SeqCst);
        drop(TcpStream::connect(self.address));
        if let Some(thread) = self.thread.take() {
            drop(thread.join());
        }
    }

    pub fn mood(&self, mood: Mood) {
        *self.shared.mood.lock().unwrap() = mood;
    }

    /// Asks for `Authorization` with exactly this value.
    pub fn wants(&self, authorization: String) {
        *self.shared.wants.lock().unwrap() = Some(authorization);
    }

    pub fn proxied(&self) -> Option<String> {
        self.shared.proxied.lock().unwrap().clone()
    }

    pub fn requests(&self) -> usize {
        self.shared.requests.load(Ordering::SeqCst)
    }

    pub fn url(&self, path: &str) -> String {
        let scheme = if self.shared.tls.is_some() { "https" } else { "http" };
        format!("{scheme}://localhost:{}/{path}", self.address.port())
    }

    pub fn url_with(&self, userinfo: &str, path: &str) -> String {
        self.url(path).replace("://", &format!("://{userinfo}@"))
    }
}

/// A port of before may be held a moment longer, by a program that a neighbouring test is starting.
fn listen(address: SocketAddr) -> TcpListener {
    let since = Instant::now();
    loop {
        match TcpListener::bind(address) {
            Ok(listener) => return listener,
            Err(error) => assert!(since.elapsed() < Duration::from_secs(10), "listen on {address}: {error}"),
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        self.mood(Mood::Normal);
        self.down();
    }
}

pub fn basic(user: &str, password: &str) -> String {
    format!("Basic {}", base64::engine::general_purpose::STANDARD.encode(format!("{user}:{password}")))
}

/// A CA (PEM) and a server that it vouches for under `name`.
pub fn certificate(name: &str) -> (String, Arc<rustls::ServerConfig>) {
    let ca_key = rcgen::KeyPair::generate().unwrap();
    let mut params = rcgen::CertificateParams::new(Vec::<String>::new()).unwrap();
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let ca = params.self_signed(&ca_key).unwrap();
    let issuer = rcgen::Issuer::new(params, ca_key);
    let key = rcgen::KeyPair::generate().unwrap();
    let leaf = rcgen::CertificateParams::new(vec![name.to_owned()]).unwrap().signed_by(&key, &issuer).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![leaf.der().clone()], PrivateKeyDer::Pkcs8(key.serialize_der().into()))
        .unwrap();
    (ca.pem(), Arc::new(config))
}

fn serve(stream: TcpStream, shared: &Shared) -> std::io::Result<()> {
    match &shared.tls {
        None => answer(stream, shared),
        Some(tls) => {
            let session = rustls::ServerConnection::new(tls.clone()).map_err(std::io::Error::other)?;
            let mut stream = rustls::StreamOwned::new(session, stream);
            answer(&mut stream, shared)?;
            stream.conn.send_close_notify();
            stream.flush()
        }
    }
}

struct Request {
    method: String,
    path: String,
    query: String,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
}

impl Request {
    fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, v)| v.as_str())
    }
}

fn read_request(stream: &mut impl Read) -> std::io::Result<Request> {
    let bad = || std::io::Error::other("bad request");
    let mut reader = BufReader::new(stream);
    let mut line = String::new();
    reader.read_line(&mut line)?;
    let mut words = line.split_whitespace();
    let (method, target) = (words.next().ok_or_else(bad)?.to_owned(), words.next().ok_or_else(bad)?.to_owned());
    // As a proxy it is asked for whole addresses.
    let target = match target.strip_prefix("http://") {
        Some(rest) => rest.find('/').map_or_else(String::new, |at| rest[at..].to_owned()),
        None => target,
    };
    let (path, query) = target.split_once('?').unwrap_or((&target, ""));
    let (path, query) = (path.to_owned(), query.to_owned());
    let mut headers = Vec::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line)?;
        let Some((name, value)) = line.trim_end().split_once(':') else { break };
        headers.push((name.to_owned(), value.trim().to_owned()));
    }
    let mut request = Request { method, path, query, headers, body: Vec::new() };
    if let Some(length) = request.header("content-length").and_then(|l| l.parse::<u64>().ok()) {
        let mut body = Vec::new();
        reader.take(length).read_to_end(&mut body)?;
        request.body = body;
    } else if request.header("transfer-encoding").is_some() {
        loop {
            let mut line = String::new();
            reader.read_line(&mut line)?;
            let size = usize::from_str_radix(line.trim(), 16).map_err(|_| bad())?;
            let mut chunk = vec![0; size + 2];
            reader.read_exact(&mut chunk)?;
            if size == 0 {
                break;
            }
            request.body.extend_from_slice(&chunk[..size]);
        }
    }
    Ok(request)
}

fn reply(stream: &mut impl Write, status: &str, headers: &str, body: &[u8]) -> std::io::Result<()> {
    write!(stream, "HTTP/1.1 {status}\r\n{headers}Content-Length: {}\r\nConnection: close\r\n\r\n", body.len())?;
    stream.write_all(body)?;
    stream.flush()
}

fn answer(mut stream: impl Read + Write, shared: &Shared) -> std::io::Result<()> {
    let request = read_request(&mut stream)?;
    shared.requests.fetch_add(1, Ordering::SeqCst);
    let mood = shared.mood.lock().unwrap().clone();
    let wants = shared.wants.lock().unwrap().clone();
    *shared.proxied.lock().unwrap() = request.header("proxy-authorization").map(str::to_owned);
    if wants.is_some() && request.header("authorization") != wants.as_deref() {
        let headers = "WWW-Authenticate: Basic realm=\"git\"\r\n";
        return reply(&mut stream, "401 Unauthorized", headers, b"no");
    }
    // The second request of a fetch lists references, the third asks for a pack.
    let for_pack = request.method == "POST" && request.body.windows(13).any(|w| w == b"command=fetch");
    match &mood {
        Mood::Status(status) => return reply(&mut stream, &format!("{status} Whatever"), "", b"no"),
        Mood::Redirect(to) => {
            let location = format!("Location: {to}{}?{}\r\n", request.path, request.query);
            return reply(&mut stream, "301 Moved", &location, b"");
        }
        Mood::Page => return reply(&mut stream, "200 OK", "Content-Type: text/html\r\n", b"<html>welcome</html>"),
        Mood::Echo => {
            let body = format!("{:?} {}?{}", request.headers, request.path, request.query);
            return reply(&mut stream, "500 Oops", "Content-Type: text/plain\r\n", body.as_bytes());
        }
        Mood::EndlessRefs if request.method == "POST" => {
            let head =
                "HTTP/1.1 200 OK\r\nContent-Type: application/x-git-upload-pack-result\r\nConnection: close\r\n\r\n";
            stream.write_all(head.as_bytes())?;
            for n in 0_u64.. {
                let line = format!("{} refs/heads/b{n}\n", "1".repeat(40));
                write!(stream, "{:04x}{line}", line.len() + 4)?;
            }
            return Ok(());
        }
        Mood::Stall if for_pack => {
            // Ends when the other side gives up.
            let mut byte = [0];
            drop(stream.read(&mut byte));
            return Ok(());
        }
        _ => {}
    }
    let mut output = backend(&request, shared)?;
    if for_pack {
        match mood {
            Mood::CutPack(at) => output.body.truncate(at),
            Mood::SpoilPack => {
                let pack = output.body.windows(4).position(|w| w == b"PACK").unwrap_or(0);
                output.body[pack + 60] ^= 0x55;
            }
            _ => {}
        }
    }
    if let Mood::HalfPack(at) = mood
        && for_pack
    {
        write!(stream, "HTTP/1.1 200 OK\r\n{}Content-Length: {}\r\n\r\n", output.headers, output.body.len())?;
        stream.write_all(&output.body[..at])?;
        stream.flush()?;
        let mut byte = [0];
        drop(stream.read(&mut byte));
        return Ok(());
    }
    let cut = for_pack && matches!(mood, Mood::CutPack(_));
    if cut {
        write!(
            stream,
            "HTTP/1.1 {}\r\n{}Content-Length: 1000000\r\nConnection: close\r\n\r\n",
            output.status, output.headers
        )?;
        stream.write_all(&output.body)?;
        return stream.flush();
    }
    reply(&mut stream, &output.status, &output.headers, &output.body)
}

struct Output {
    status: String,
    headers: String,
    body: Vec<u8>,
}

fn backend(request: &Request, shared: &Shared) -> std::io::Result<Output> {
    let mut command = Command::new("git");
    command
        .arg("http-backend")
        .env_clear()
        .env("PATH", std::env::var_os("PATH").unwrap_or_default())
        .env("HOME", &shared.root)
        .env("GIT_CONFIG_NOSYSTEM", "1")
        .env("GIT_PROJECT_ROOT", &shared.root)
        .env("GIT_HTTP_EXPORT_ALL", "1")
        .env("REQUEST_METHOD", &request.method)
        .env("PATH_INFO", &request.path)
        .env("QUERY_STRING", &request.query)
        .env("CONTENT_LENGTH", request.body.len().to_string())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null());
    for (name, variable) in [
        ("content-type", "CONTENT_TYPE"),
        ("git-protocol", "GIT_PROTOCOL"),
        ("content-encoding", "HTTP_CONTENT_ENCODING"),
    ] {
        if let Some(value) = request.header(name) {
            command.env(variable, value);
        }
    }
    let mut child = command.spawn()?;
    let mut stdin = child.stdin.take().unwrap();
    let body = request.body.clone();
    let writer = std::thread::spawn(move || drop(stdin.write_all(&body)));
    let output = child.wait_with_output()?;
    drop(writer.join());
    let end =
        output.stdout.windows(4).position(|w| w == b"\r\n\r\n").ok_or_else(|| std::io::Error::other("no answer"))?;
    let head = String::from_utf8_lossy(&output.stdout[..end]).into_owned();
    let mut status = "200 OK".to_owned();
    let mut headers = String::new();
    for line in head.split("\r\n") {
        match line.strip_prefix("Status: ") {
            Some(s) => s.clone_into(&mut status),
            None => headers.push_str(&format!("{line}\r\n")),
        }
    }
    Ok(Output { status, headers, body: output.stdout[end + 4..].to_vec() })
}
