//! Nothing secret in the log, at its most talkative and through every library below. Alone in its file: the subscriber is
//! that of the whole process.
#![allow(clippy::unwrap_used, reason = "a test that cannot be set up has failed")]

mod common;

use std::io;
use std::sync::{Arc, Mutex};

use common::host::{Host, Mood, basic, certificate};
use common::{Origin, config, fetch, open};
use driftless_source::config::Proxy;
use driftless_source::{Auth, Secret, SourceUrl};

const CANARY: &str = "canary-51c0";

#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl io::Write for Log {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(buf);
        Ok(buf.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn no_log_line_shows_a_credential() {
    let log = Log::default();
    let writer = log.clone();
    tracing_subscriber::fmt()
        .with_max_level(tracing_subscriber::filter::LevelFilter::TRACE)
        .with_writer(move || writer.clone())
        .init();
    let origin = Origin::new();
    let (ca, tls) = certificate("localhost");
    let host = Host::start_tls(origin.root(), tls);
    host.wants(basic("hub", CANARY));
    let dir = tempfile::tempdir().unwrap();
    let configure = |url: String| {
        let mut config = config(&url);
        config.ca = Some(ca.clone());
        config
    };
    let mut given = configure(host.url("repo.git"));
    given.auth = Auth::Basic { user: "hub".into(), password: Secret::new(CANARY) };
    given.limits.packs = 2;
    let mirror = open(dir.path(), given.clone());
    fetch(&mirror).await.unwrap();
    for n in 0..3 {
        origin.commit(&[("n", &n.to_string())]);
        fetch(&mirror).await.unwrap(); // clones afresh, which is logged
    }
    for mood in [Mood::Status(403), Mood::Status(500), Mood::Echo, Mood::CutPack(500), Mood::SpoilPack, Mood::Page] {
        origin.commit(&[("mood", &format!("{mood:?}"))]);
        host.mood(mood);
        fetch(&mirror).await.unwrap_err();
    }
    host.mood(Mood::Normal);
    drop(mirror);
    std::fs::write(dir.path().join("state.json"), "garbled").unwrap();
    fetch(&open(dir.path(), given)).await.unwrap();
    let dir = tempfile::tempdir().unwrap();
    let mut in_url = configure(format!("{}?token={CANARY}", host.url_with(&format!("{CANARY}:{CANARY}"), "repo.git")));
    in_url.proxy = Some(Proxy {
        url: SourceUrl::parse(&host.url_with(&format!("p:{CANARY}"), "x")).unwrap(),
        user: None,
        password: Some(Secret::new(CANARY)),
    });
    fetch(&open(dir.path(), in_url.clone())).await.unwrap_err();
    tracing::info!(?in_url, "configuration");

    let text = String::from_utf8_lossy(&log.0.lock().unwrap()).into_owned();
    assert!(text.contains("cloned afresh") && text.contains("made anew"), "the log was not seen");
    for form in [CANARY.to_owned(), basic("hub", CANARY)[6..].to_owned(), basic("p", CANARY)[6..].to_owned()] {
        let line = text.lines().find(|l| l.contains(&form));
        assert_eq!(line, None, "a credential is in the log");
    }
}
