//! The same questions answered from plain collections: the oracle of the contract, and a store for tests.
//!
//! Written for being obviously right, not for speed.

use std::collections::{BTreeMap, BTreeSet};

use driftless_protocol::id::{ClusterId, Digest, Generation, TokenId, UnitId};
use driftless_protocol::report::{RecentEvent, UnitReport};
use driftless_protocol::signing::Signed;

use crate::audit::{follows, link};
use crate::error::StoreError;
use crate::history;
use crate::model::*;

type Answer<T> = Result<T, StoreError>;

#[derive(Debug)]
struct Row {
    cluster: Cluster,
    previous: Option<Digest>,
    /// The newest certificate, until it is seen.
    unseen: Option<Vec<u8>>,
    session: u64,
    reports: (u64, u64),
}

#[derive(Debug)]
pub(crate) struct Model {
    epoch: u64,
    clusters: BTreeMap<ClusterId, Row>,
    tokens: BTreeMap<TokenId, TokenRecord>,
    trust: Vec<Signed>,
    sources: BTreeMap<String, SourceStatus>,
    heads: BTreeMap<ClusterId, Vec<Head>>, // newest first
    blobs: BTreeMap<Digest, Vec<u8>>,
    links: BTreeMap<Digest, BTreeSet<Digest>>,
    intents: BTreeMap<String, IntentRecord>,
    cluster_reports: BTreeMap<ClusterId, StoredClusterReport>,
    facts: BTreeMap<ClusterId, StoredFacts>,
    unit_reports: BTreeMap<(ClusterId, UnitId), StoredUnitReport>,
    /// By time and digest.
    history: BTreeMap<(ClusterId, UnitId), BTreeMap<(u64, String), RecentEvent>>,
    audit: Vec<AuditRow>,
}

impl Model {
    pub(crate) fn new(now_seconds: u64) -> Self {
        Self {
            epoch: now_seconds,
            clusters: BTreeMap::new(),
            tokens: BTreeMap::new(),
            trust: Vec::new(),
            sources: BTreeMap::new(),
            heads: BTreeMap::new(),
            blobs: BTreeMap::new(),
            links: BTreeMap::new(),
            intents: BTreeMap::new(),
            cluster_reports: BTreeMap::new(),
            facts: BTreeMap::new(),
            unit_reports: BTreeMap::new(),
            history: BTreeMap::new(),
            audit: Vec::new(),
        }
    }

    fn active(&mut self, id: ClusterId) -> Option<&mut Row> {
        self.clusters.get_mut(&id).filter(|r| r.cluster.state == ClusterState::Active)
    }

    pub(crate) fn epoch(&self) -> Answer<u64> {
        Ok(self.epoch)
    }

    pub(crate) fn bump_epoch(&mut self, now_seconds: u64, act: Act) -> Answer<u64> {
        self.epoch = now_seconds.max(self.epoch + 1);
        self.audit(act)?;
        Ok(self.epoch)
    }

    pub(crate) fn clusters(&self) -> Answer<Vec<Cluster>> {
        let mut out: Vec<Cluster> = self.clusters.values().map(|r| r.cluster.clone()).collect();
        out.sort_by(|a, b| (&a.name, a.id).cmp(&(&b.name, b.id)));
        Ok(out)
    }

    pub(crate) fn cluster(&self, id: ClusterId) -> Answer<Option<Cluster>> {
        Ok(self.clusters.get(&id).map(|r| r.cluster.clone()))
    }

    pub(crate) fn issued(
        &mut self,
        id: ClusterId,
        agent_key: Digest,
        certificate: Certificate,
        der: Vec<u8>,
    ) -> Answer<bool> {
        let Some(row) = self.active(id) else { return Ok(false) };
        row.unseen = Some(der);
        row.previous = Some(row.cluster.certificate.digest);
        row.cluster.certificate = certificate;
        row.cluster.certificate_count += 1;
        row.cluster.agent_key = agent_key;
        Ok(true)
    }

    pub(crate) fn unseen_certificate(&self, id: ClusterId, agent_key: Digest) -> Answer<Option<UnseenCertificate>> {
        let row = self.clusters.get(&id).filter(|r| r.cluster.state == ClusterState::Active);
        let row = row.filter(|r| r.cluster.agent_key == agent_key);
        Ok(row.and_then(|r| {
            Some(UnseenCertificate { der: r.unseen.clone()?, not_after: r.cluster.certificate.not_after })
        }))
    }

    pub(crate) fn admit(&mut self, id: ClusterId, certificate: Digest, now: u64) -> Answer<Admission> {
        let Some(row) = self.clusters.get_mut(&id) else { return Ok(Admission::Unknown) };
        if row.cluster.state == ClusterState::Revoked {
            return Ok(Admission::Revoked);
        }
        if row.cluster.certificate.digest == certificate {
            row.previous = None;
            row.unseen = None;
        } else if row.previous != Some(certificate) {
            return Ok(Admission::Superseded);
        }
        row.session += 1;
        row.cluster.last_seen = Some(now);
        Ok(Admission::Admitted {
            cluster: Box::new(row.cluster.clone()),
            session: row.session,
            reports_taken: row.reports.1,
        })
    }

    pub(crate) fn set_labels(&mut self, id: ClusterId, labels: Labels, act: Act) -> Answer<bool> {
        self.audit(act)?;
        let Some(row) = self.active(id) else { return Ok(false) };
        row.cluster.labels = labels;
        Ok(true)
    }

    pub(crate) fn revoke(&mut self, id: ClusterId, act: Act) -> Answer<bool> {
        self.audit(act)?;
        let Some(row) = self.active(id) else { return Ok(false) };
        row.cluster.state = ClusterState::Revoked;
        self.heads.remove(&id);
        self.cluster_reports.remove(&id);
        self.facts.remove(&id);
        self.unit_reports.retain(|(cluster, _), _| *cluster != id);
        self.intents.retain(|_, r| r.intent.cluster() != Some(id));
        Ok(true)
    }

    pub(crate) fn create_token(&mut self, token: Token, act: Act) -> Answer<()> {
        if self.tokens.contains_key(&token.id) {
            let what = "somebody else wrote it in the same moment; try again";
            return Err(StoreError::conflict("store a join token", what));
        }
        self.tokens.insert(token.id, TokenRecord { token, failures: 0, used: None });
        self.audit(act)
    }

    pub(crate) fn token(&self, id: TokenId) -> Answer<Option<TokenRecord>> {
        Ok(self.tokens.get(&id).cloned())
    }

    pub(crate) fn tokens(&self) -> Answer<Vec<TokenRecord>> {
        let mut out: Vec<TokenRecord> = self.tokens.values().cloned().collect();
        out.sort_by_key(|r| (r.token.expires, r.token.id));
        Ok(out)
    }

    pub(crate) fn token_failed(&mut self, id: TokenId) -> Answer<()> {
        if let Some(record) = self.tokens.get_mut(&id) {
            record.failures += 1;
        }
        Ok(())
    }

    pub(crate) fn forget_tokens(&mut self, before: u64) -> Answer<u64> {
        let count = self.tokens.len();
        self.tokens.retain(|_, r| r.token.expires >= before);
        Ok((count - self.tokens.len()) as u64)
    }

    pub(crate) fn redeem(&mut self, enrollment: Enrollment) -> Answer<Enrolled> {
        let Enrollment { token, cluster, kube_uid, agent_key, now } = enrollment;
        let Some(record) = self.tokens.get_mut(&token).filter(|r| r.failures < TOKEN_FAILURES) else {
            return Ok(Enrolled::Unknown);
        };
        let name = record.token.name.clone();
        if record.token.expires <= now {
            return Ok(Enrolled::Expired);
        }
        let mut active = self.clusters.values().filter(|r| r.cluster.state == ClusterState::Active);
        if let Some((_, by)) = record.used {
            let again = active.any(|r| {
                r.cluster.id == by
                    && r.cluster.kube_uid == kube_uid
                    && r.cluster.agent_key == agent_key
                    && r.session == 0
            });
            return Ok(if again { Enrolled::Granted { cluster: by, name, new: false } } else { Enrolled::Used });
        }
        if active.clone().any(|r| r.cluster.name == name) {
            return Ok(Enrolled::NameTaken(name));
        }
        if let Some(other) = active.find(|r| r.cluster.kube_uid == kube_uid) {
            return Ok(Enrolled::UidTaken(other.cluster.name.clone()));
        }
        if self.clusters.contains_key(&cluster) {
            return Err(StoreError::conflict("redeem a join token", "the id was given before"));
        }
        record.used = Some((now, cluster));
        let none = Certificate { digest: Digest::from_bytes([0; 32]), serial: String::new(), not_after: 0 };
        let new = Cluster {
            id: cluster,
            name: name.clone(),
            labels: record.token.labels.clone(),
            kube_uid,
            state: ClusterState::Active,
            agent_key,
            certificate: none,
            certificate_count: 0,
            last_seen: None,
            created: now,
        };
        self.clusters.insert(cluster, Row { cluster: new, previous: None, unseen: None, session: 0, reports: (0, 0) });
        Ok(Enrolled::Granted { cluster, name, new: true })
    }

    pub(crate) fn trust_documents(&self) -> Answer<Vec<Signed>> {
        Ok(self.trust.clone())
    }

    pub(crate) fn add_trust_document(&mut self, version: u64, document: Signed) -> Answer<()> {
        let last = self.trust.len() as u64;
        if version != last + 1 {
            let what = format!("version {version} does not follow version {last}");
            return Err(StoreError::conflict("add a trust document", what));
        }
        self.trust.push(document);
        Ok(())
    }

    pub(crate) fn sources(&self) -> Answer<Vec<SourceStatus>> {
        Ok(self.sources.values().cloned().collect())
    }

    pub(crate) fn put_source(&mut self, mut status: SourceStatus) -> Answer<()> {
        status.since = status.attempted_at;
        if let Some(old) = self.sources.get(&status.id) {
            if status.last_good.is_none() && old.url == status.url && old.reference == status.reference {
                status.last_good.clone_from(&old.last_good);
            }
            if old.code == status.code {
                status.since = old.since;
            }
        }
        self.sources.insert(status.id.clone(), status);
        Ok(())
    }

    pub(crate) fn remove_source(&mut self, id: String) -> Answer<()> {
        self.sources.remove(&id);
        Ok(())
    }

    pub(crate) fn heads(&self) -> Answer<Vec<Head>> {
        Ok(self.heads.values().flatten().cloned().collect())
    }

    pub(crate) fn heads_of(&self, cluster: ClusterId) -> Answer<Vec<Head>> {
        Ok(self.heads.get(&cluster).cloned().unwrap_or_default())
    }

    pub(crate) fn offer(&mut self, offer: Offer) -> Answer<()> {
        const OPERATION: &str = "store an offer";
        if self.active(offer.cluster).is_none() {
            return Err(StoreError::conflict(OPERATION, "the cluster is not enrolled"));
        }
        let last = self.heads.get(&offer.cluster).and_then(|h| h.first()).map(|h| h.generation);
        if last != offer.after {
            return Err(StoreError::conflict(OPERATION, "another generation was offered meanwhile"));
        }
        if last.is_some_and(|last| offer.generation <= last) {
            return Err(StoreError::conflict(OPERATION, "its generation is not above the last one"));
        }
        let mut blobs = self.blobs.clone();
        let mut links = self.links.clone();
        for body in &offer.bodies {
            if blobs.contains_key(&body.blob.digest) {
                continue;
            }
            for child in &body.children {
                match offer.objects.get(child) {
                    Some(bytes) => drop(blobs.insert(*child, bytes.to_vec())),
                    None if blobs.contains_key(child) => {}
                    None => {
                        let what = format!("object {child} of body {} is not given", body.blob.digest);
                        return Err(StoreError::conflict(OPERATION, what));
                    }
                }
            }
            blobs.insert(body.blob.digest, body.bytes.to_vec());
            links.insert(body.blob.digest, body.children.clone());
        }
        for index in [&offer.index, &offer.content] {
            if let Some(body) = index.children.iter().find(|b| !blobs.contains_key(b)) {
                let what = format!("body {body} of index {} is not given", index.blob.digest);
                return Err(StoreError::conflict(OPERATION, what));
            }
            blobs.insert(index.blob.digest, index.bytes.to_vec());
            links.insert(index.blob.digest, index.children.clone());
        }
        self.blobs = blobs;
        self.links = links;
        let heads = self.heads.entry(offer.cluster).or_default();
        heads.insert(
            0,
            Head {
                cluster: offer.cluster,
                generation: offer.generation,
                head: offer.head,
                index: offer.index.blob.digest,
                content: offer.content.blob.digest,
                revisions: offer.revisions,
                offered_at: offer.now,
                expires: offer.expires,
                taken_at: None,
                refused: None,
            },
        );
        heads.truncate(2);
        Ok(())
    }

    pub(crate) fn settle(
        &mut self,
        cluster: ClusterId,
        generation: Generation,
        refused: Option<(String, String)>,
        now: u64,
    ) -> Answer<()> {
        let heads = self.heads.get_mut(&cluster).into_iter().flatten();
        for head in heads.filter(|h| h.generation == generation) {
            head.taken_at = refused.is_none().then_some(now);
            head.refused.clone_from(&refused);
        }
        Ok(())
    }

    pub(crate) fn blobs(&self, digests: Vec<Digest>) -> Answer<Vec<(Digest, Vec<u8>)>> {
        Ok(digests.into_iter().filter_map(|d| self.blobs.get(&d).map(|b| (d, b.clone()))).collect())
    }

    fn reach(&self, roots: impl IntoIterator<Item = Digest>) -> BTreeSet<Digest> {
        let mut todo: Vec<Digest> = roots.into_iter().filter(|d| self.blobs.contains_key(d)).collect();
        let mut seen = BTreeSet::new();
        while let Some(digest) = todo.pop() {
            if seen.insert(digest) {
                todo.extend(self.links.get(&digest).into_iter().flatten());
            }
        }
        seen
    }

    pub(crate) fn closure(&self, index: Digest) -> Answer<BTreeSet<Digest>> {
        Ok(self.reach([index]))
    }

    pub(crate) fn collect_blobs(&mut self) -> Answer<u64> {
        let live = self.reach(self.heads.values().flatten().flat_map(|h| [h.index, h.content]));
        let count = self.blobs.len();
        self.blobs.retain(|d, _| live.contains(d));
        self.links.retain(|d, _| live.contains(d));
        Ok((count - self.blobs.len()) as u64)
    }

    pub(crate) fn intents(&self) -> Answer<Vec<IntentRecord>> {
        Ok(self.intents.values().cloned().collect())
    }

    pub(crate) fn put_intent(&mut self, record: IntentRecord, act: Act) -> Answer<()> {
        self.intents.insert(record.intent.id(), record);
        self.audit(act)
    }

    pub(crate) fn put_intents(&mut self, records: Vec<(IntentRecord, Act)>) -> Answer<()> {
        for (record, act) in records {
            self.put_intent(record, act)?;
        }
        Ok(())
    }

    pub(crate) fn remove_intent(&mut self, intent: Intent, act: Act) -> Answer<bool> {
        self.audit(act)?;
        Ok(self.intents.remove(&intent.id()).is_some())
    }

    pub(crate) fn write_reports(&mut self, batch: Vec<ReportWrite>) -> Answer<Vec<bool>> {
        let mut order: Vec<(usize, ReportWrite)> = batch.into_iter().enumerate().collect();
        order.sort_by_key(|(_, w)| (w.cluster, w.session, w.n));
        let mut taken = vec![false; order.len()];
        for (at, write) in order {
            let ReportWrite { cluster, session, n, received, content } = write;
            let Some(row) = self.active(cluster).filter(|r| r.reports < (session, n)) else { continue };
            row.reports = (session, n);
            row.cluster.last_seen = Some(received);
            taken[at] = true;
            match content {
                ReportContent::Cluster(report) => {
                    self.cluster_reports.insert(cluster, StoredClusterReport { cluster, received, report: *report });
                }
                ReportContent::Units(reports) => {
                    for report in reports {
                        let key = (cluster, report.unit.clone());
                        self.keep(&key, &report, received)?;
                        self.unit_reports.insert(key, StoredUnitReport { cluster, received, report });
                    }
                }
                ReportContent::Gone(units) => {
                    for unit in units {
                        self.unit_reports.remove(&(cluster, unit));
                    }
                }
                ReportContent::Facts(facts) => {
                    let digest = facts.digest();
                    self.facts.insert(cluster, StoredFacts { cluster, received, digest, facts: *facts });
                }
                ReportContent::Snapshot(units) => {
                    self.unit_reports.retain(|(c, unit), _| *c != cluster || units.contains(unit));
                }
            }
        }
        Ok(taken)
    }

    pub(crate) fn cluster_reports(&self) -> Answer<Vec<StoredClusterReport>> {
        Ok(self.cluster_reports.values().cloned().collect())
    }

    pub(crate) fn fact_digests(&self) -> Answer<Vec<(ClusterId, Digest)>> {
        Ok(self.facts.values().map(|f| (f.cluster, f.digest)).collect())
    }

    pub(crate) fn facts(&self, cluster: ClusterId) -> Answer<Option<StoredFacts>> {
        Ok(self.facts.get(&cluster).cloned())
    }

    pub(crate) fn unit_reports(&self, cluster: Option<ClusterId>) -> Answer<Vec<StoredUnitReport>> {
        let wanted = |c: ClusterId| cluster.is_none_or(|cluster| cluster == c);
        Ok(self.unit_reports.iter().filter(|((c, _), _)| wanted(*c)).map(|(_, r)| r.clone()).collect())
    }

    fn keep(&mut self, key: &(ClusterId, UnitId), report: &UnitReport, received: u64) -> Answer<()> {
        if history::plausible(report, received).next().is_none() {
            return Ok(());
        }
        let of = self.history.entry(key.clone()).or_default();
        let known = of.keys().map(|(at, _)| *at).max().unwrap_or_default();
        for event in history::plausible(report, received).filter(|event| event.at >= known) {
            let (_, digest) = history::entry(event)?;
            of.insert((event.at, digest), event.clone());
        }
        let times: Vec<u64> = of.keys().rev().map(|(at, _)| *at).collect();
        if let Some(oldest) = times.get(history::PER_UNIT as usize - 1) {
            of.retain(|(at, _), _| at >= oldest);
        }
        Ok(())
    }

    pub(crate) fn history(&self, query: HistoryQuery) -> Answer<Vec<StoredEvent>> {
        let wanted = |cluster: &ClusterId, unit: &UnitId| {
            query.cluster.is_none_or(|c| c == *cluster) && query.unit.as_ref().is_none_or(|u| u == unit)
        };
        let mut all: Vec<(u64, String, StoredEvent)> = Vec::new();
        for ((cluster, unit), events) in self.history.iter().filter(|((c, u), _)| wanted(c, u)) {
            for ((at, digest), event) in events.iter().filter(|((at, _), _)| *at >= query.since) {
                let stored = StoredEvent { cluster: *cluster, unit: unit.clone(), event: event.clone() };
                all.push((*at, digest.clone(), stored));
            }
        }
        let order = |(at, digest, event): &(u64, String, StoredEvent)| {
            let UnitId { namespace, name, kind } = event.unit.clone();
            (std::cmp::Reverse(*at), event.cluster.to_string(), namespace, name, kind.to_string(), digest.clone())
        };
        all.sort_by_key(order);
        let limit = usize::try_from(query.limit).unwrap_or(usize::MAX);
        Ok(all.into_iter().take(limit).map(|(_, _, event)| event).collect())
    }

    pub(crate) fn forget_history(&mut self, before: u64) -> Answer<u64> {
        let mut dropped = 0;
        for events in self.history.values_mut() {
            let all = events.len();
            events.retain(|(at, _), _| *at >= before);
            dropped += (all - events.len()) as u64;
        }
        Ok(dropped)
    }

    pub(crate) fn audit(&mut self, act: Act) -> Answer<()> {
        let before = self.audit.last().map(|r| r.hash.to_string()).unwrap_or_default();
        let n = self.audit.len() as u64 + 1;
        let hash = link(&before, n, &act)?;
        self.audit.push(AuditRow { n, act, hash });
        Ok(())
    }

    pub(crate) fn audit_rows(&self, after: u64, limit: u64) -> Answer<Vec<AuditRow>> {
        let limit = usize::try_from(limit).unwrap_or(usize::MAX);
        Ok(self.audit.iter().filter(|r| r.n > after).take(limit).cloned().collect())
    }

    pub(crate) fn verify_audit(&self) -> Answer<Option<AuditBreak>> {
        let (mut n, mut before) = (0, String::new());
        for row in &self.audit {
            if let Some(broken) = follows(&mut n, &mut before, row)? {
                return Ok(Some(broken));
            }
        }
        Ok(None)
    }
}
