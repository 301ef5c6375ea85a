//! One request through `git http-backend`, as a web server's CGI module would do it.

use std::path::Path;
use std::process::Stdio;

use anyhow::{Context, Result, bail};
use bytes::Bytes;
use http::{HeaderName, HeaderValue, Request, Response, StatusCode};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, StreamBody};
use hyper::body::{Frame, Incoming};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};
use tokio_util::task::AbortOnDropHandle;

/// Longest header block that the program may answer with.
const MAX_HEADERS: usize = 64 * 1024;
/// Piece of an answer that is passed on at once.
const PIECE: usize = 64 * 1024;

/// The body of every answer of the server.
pub(super) type Body = BoxBody<Bytes, std::io::Error>;

/// Runs the program for `request` on the repositories in `root`; `user` is who logged in.
///
/// The program ends when the answer has been sent, or when its body is dropped.
pub(super) async fn serve(git: &Path, root: &Path, request: Request<Incoming>, user: &str) -> Result<Response<Body>> {
    let (head, body) = request.into_parts();
    let header = |name: &str| head.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let mut command = Command::from(super::isolated(git, root));
    command
        .arg("http-backend")
        .env("GIT_PROJECT_ROOT", root)
        .env("GIT_HTTP_EXPORT_ALL", "1")
        // The repositories may belong to another user than the one who runs this (a container's, say).
        .env("GIT_CONFIG_COUNT", "1")
        .env("GIT_CONFIG_KEY_0", "safe.directory")
        .env("GIT_CONFIG_VALUE_0", "*")
        .env("REQUEST_METHOD", head.method.as_str())
        .env("PATH_INFO", head.uri.path())
        .env("QUERY_STRING", head.uri.query().unwrap_or_default())
        .env("REMOTE_ADDR", "127.0.0.1")
        .env("REMOTE_USER", user)
        .env("CONTENT_TYPE", header("content-type"))
        .env("HTTP_CONTENT_ENCODING", header("content-encoding"))
        .env("GIT_PROTOCOL", header("git-protocol"))
        .env("SERVER_PROTOCOL", "HTTP/1.1");
    // A large push comes without a length; the program then reads to the end.
    if !header("content-length").is_empty() {
        command.env("CONTENT_LENGTH", header("content-length"));
    }
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).kill_on_drop(true);
    let mut child = command.spawn().context("start git http-backend")?;
    let (Some(input), Some(output)) = (child.stdin.take(), child.stdout.take()) else {
        bail!("git http-backend started without pipes");
    };
    // At the same time as the answer is read: either side may fill its pipe first.
    let feeding = AbortOnDropHandle::new(tokio::spawn(feed(body, input)));
    let mut output = BufReader::with_capacity(PIECE, output);
    let mut response = read_head(&mut output).await?;
    *response.body_mut() = pass_on(Running { output, _child: child, _feeding: feeding });
    Ok(response)
}

/// A plain text answer of our own.
pub(super) fn text(status: StatusCode, text: &'static str) -> Response<Body> {
    let body = http_body_util::Full::new(Bytes::from_static(text.as_bytes())).map_err(|never| match never {}).boxed();
    let mut response = Response::new(body);
    *response.status_mut() = status;
    response
}

/// The program and its pipes, together as long as the answer is being sent.
struct Running {
    output: BufReader<ChildStdout>,
    _child: Child,
    _feeding: AbortOnDropHandle<()>,
}

async fn feed(mut body: Incoming, mut input: ChildStdin) {
    while let Some(Ok(frame)) = body.frame().await {
        let Ok(data) = frame.into_data() else { continue };
        // The program ended early: it has answered, and that is what counts.
        if input.write_all(&data).await.is_err() {
            return;
        }
    }
}

/// Reads the CGI header block up to the empty line.
async fn read_head(output: &mut BufReader<ChildStdout>) -> Result<Response<Body>> {
    let mut response = text(StatusCode::OK, "");
    let mut block = output.take(MAX_HEADERS as u64);
    loop {
        let mut line = String::new();
        block.read_line(&mut line).await.context("read the answer of git http-backend")?;
        if !line.ends_with('\n') {
            bail!("git http-backend answered no complete header");
        }
        let line = line.trim_end();
        if line.is_empty() {
            return Ok(response);
        }
        let (name, value) = line.split_once(':').context("a header without colon from git http-backend")?;
        let value = value.trim();
        if name.eq_ignore_ascii_case("status") {
            *response.status_mut() = value.split(' ').next().unwrap_or_default().parse()?;
        } else {
            response.headers_mut().append(HeaderName::from_bytes(name.as_bytes())?, HeaderValue::from_str(value)?);
        }
    }
}

fn pass_on(running: Running) -> Body {
    let pieces = futures::stream::unfold(Some(running), |running| async {
        let mut running = running?;
        let mut piece = Vec::with_capacity(PIECE);
        match running.output.read_buf(&mut piece).await {
            Ok(0) => None,
            Ok(_) => Some((Ok(Frame::data(Bytes::from(piece))), Some(running))),
            Err(error) => Some((Err(error), None)),
        }
    });
    BodyExt::boxed(StreamBody::new(pieces))
}
