//! The certificate as it ages: renewed at half its life, replaced by a new enrolment once it is past its time.
//!
//! A certificate past its time stops nothing but the talk with the hub. The link goes on with it (a hub may renew it all the
//! same), says so, and where a join token is there and the hub cannot be reached with the old certificate, enrols anew.

use std::time::Duration;

use driftless_protocol::id::Digest;
use tokio::time::Instant;

use super::pause::{self, Pause};
use super::{Link, Work, problem};
use crate::agent::unix_millis;
use crate::cluster::api::chain;
use crate::identity::{Identity, IdentityError};
use crate::join::Found;

/// How long the hub may take to renew the certificate, and the pause between attempts in one session.
const RENEW_AGAIN: Duration = Duration::from_secs(600);
/// How often the join token file is looked at while there is none that could help: the kubelet brings a new one.
const TOKEN_LOOK: Duration = Duration::from_secs(10);

/// How soon to look again while a write has the identity.
const BUSY: Duration = Duration::from_millis(100);

/// What the link knows of the certificate, also while a work has the identity.
pub(super) struct Certificate {
    /// Half its life, Unix seconds.
    renew_at: u64,
    /// Unix seconds.
    not_after: u64,
    /// When a new one is asked for, in a session.
    renew_due: Instant,
    renewing: bool,
    /// It was told that it is past its time.
    told: bool,
    /// When to enrol anew; `None`: the certificate is good, or was not tried yet.
    enrol_due: Option<Instant>,
    enrolling: bool,
    /// Why the last enrolment failed, until the next.
    enrol_failed: Option<String>,
    pause: Pause,
}

impl Certificate {
    pub(super) fn of(identity: &Identity) -> Self {
        let mut certificate = Self {
            renew_at: 0,
            not_after: 0,
            renew_due: Instant::now(),
            renewing: false,
            told: false,
            enrol_due: None,
            enrolling: false,
            enrol_failed: None,
            pause: Pause::default(),
        };
        certificate.take(identity);
        certificate
    }

    fn take(&mut self, identity: &Identity) {
        (self.renew_at, self.not_after) = (identity.renew_at(), identity.not_after);
        let seconds = self.renew_at.saturating_sub(unix_seconds());
        // Up to a tenth later, so that clusters enrolled together do not ask together.
        let jitter = pause::jitter(Duration::from_secs(seconds / 10));
        self.renew_due = Instant::now() + Duration::from_secs(seconds) + jitter;
        (self.renewing, self.told) = (false, false);
        (self.enrol_due, self.enrol_failed) = (None, None);
    }

    fn is_expired(&self) -> bool {
        unix_seconds() >= self.not_after
    }

    /// When something of it is to be done or told.
    pub(super) fn wake(&self) -> Instant {
        let expires = (!self.told)
            .then(|| Instant::now() + Duration::from_secs(self.not_after.saturating_sub(unix_seconds()).min(86_400)));
        let enrol = self.enrol_due.filter(|_| !self.enrolling);
        [expires, enrol].into_iter().flatten().fold(self.renew_due, Instant::min)
    }
}

fn unix_seconds() -> u64 {
    unix_millis() / 1000
}

impl Link {
    /// Time passed: asks for what is due.
    pub(super) fn look_at_certificate(&mut self) {
        let now = Instant::now();
        if self.certificate.is_expired() && !self.certificate.told {
            self.certificate.told = true;
            self.tell_expired();
        }
        if self.certificate.renew_due <= now {
            if self.certificate.renewing {
                tracing::warn!("the hub did not answer the request for a certificate");
                self.down(None, false);
            } else if self.session.is_up() {
                self.ask_renewal();
            }
            // Without a session there is nobody to ask; the next asks at once.
            self.certificate.renew_due = now + RENEW_AGAIN;
        }
        if !self.certificate.enrolling && self.certificate.enrol_due.is_some_and(|due| due <= now) {
            self.enrol();
        }
    }

    fn ask_renewal(&mut self) {
        self.certificate.renewing = true;
        self.certificate.renew_due = Instant::now() + RENEW_AGAIN;
        self.work.push_back(Work::AskRenewal);
    }

    /// The hub greeted: what is half used or past its time is renewed in this session, and first of all.
    pub(super) fn renew_if_due(&mut self) {
        self.certificate.enrol_due = None;
        if unix_seconds() >= self.certificate.renew_at && !self.certificate.renewing {
            self.ask_renewal();
        }
    }

    /// A request for a certificate is ready. `true`: it is for this session, and no newer one is about to be made.
    pub(super) fn renewal_is_wanted(&self) -> bool {
        self.certificate.renewing && !self.work.iter().any(|work| matches!(work, Work::AskRenewal))
    }

    pub(super) fn renewed(&mut self) {
        tracing::info!("certificate renewed; used from the next connection on");
        if let Some(keep) = &self.keep {
            self.certificate.take(&keep.identity);
        }
        (self.problems.renewal, self.problems.expired) = (None, None);
        self.tell_cluster();
    }

    pub(super) fn renewal_failed(&mut self, message: String) {
        tracing::warn!(why = message, "the certificate was not renewed; trying again");
        self.certificate.renewing = false;
        self.certificate.renew_due = Instant::now() + RENEW_AGAIN;
        self.problems.renewal = problem("RenewalFailed", format!("the certificate was not renewed: {message}"));
        self.tell_cluster();
    }

    /// The connection ended, or there was none.
    pub(super) fn certificate_unheard(&mut self) {
        self.certificate.renewing = false;
        if self.certificate.is_expired() && self.certificate.enrol_due.is_none() {
            self.certificate.enrol_due = Some(Instant::now());
        }
    }

    /// With the join token that is there, if any; one round of the hub's addresses.
    fn enrol(&mut self) {
        if self.keep.is_none() || !self.work.is_empty() {
            // Perhaps with the certificate that the hub granted before it ended the session.
            self.certificate.enrol_due = Some(Instant::now() + BUSY);
            return;
        }
        match self.join.read_fresh() {
            Ok(Some(Found { token, content })) => {
                tracing::info!("the certificate is past its time; enrolling anew with the join token");
                self.certificate.enrolling = true;
                self.work.push_back(Work::Enrol(Box::new(token), content));
            }
            Ok(None) => self.certificate.enrol_due = Some(Instant::now() + TOKEN_LOOK),
            Err(error) => {
                self.certificate.enrol_due = Some(Instant::now() + TOKEN_LOOK);
                self.enrol_failed(error.to_string());
            }
        }
    }

    pub(super) fn enrolled(&mut self, content: Digest, answer: Result<(), IdentityError>) {
        self.certificate.enrolling = false;
        match answer {
            Ok(()) => {
                tracing::info!("enrolled anew; beginning again with the new identity");
                self.over = true;
            }
            // Another pod enrolled, or leads: whoever leads begins from what is stored.
            Err(IdentityError::Raced) => self.over = true,
            Err(error) => {
                if error.condemns_token() {
                    self.join.refuse(content);
                }
                let wait = self.certificate.pause.next(Instant::now(), None, false);
                self.certificate.enrol_due = Some(Instant::now() + wait);
                self.enrol_failed(chain(&error));
            }
        }
    }

    fn enrol_failed(&mut self, why: String) {
        if self.certificate.enrol_failed.as_ref() != Some(&why) {
            tracing::warn!(why, "cannot enrol anew with the join token");
            self.certificate.enrol_failed = Some(why);
            self.tell_expired();
        }
    }

    /// Where people see it: what is enforced goes on, but the hub does not hear of it.
    fn tell_expired(&mut self) {
        let days = unix_seconds().saturating_sub(self.certificate.not_after) / 86_400;
        let mut message = format!(
            "the certificate of cluster {} is past its time since {days} days; what was last received is enforced. If the hub \
             does not renew it, make a new join token with `driftless cluster join-token` and put it into the Secret that \
             --join-token-file reads",
            self.name
        );
        tracing::warn!("{message}");
        if let Some(why) = &self.certificate.enrol_failed {
            message.push_str("; the join token that is there did not help: ");
            message.push_str(why);
        }
        self.problems.expired = problem("CertificateExpired", message);
        self.tell_cluster();
    }
}
