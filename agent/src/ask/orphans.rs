//! Lists every kind by metadata, page by page, and keeps the names of what nobody declares.

use std::collections::BTreeSet;

use driftless_protocol::ask::{Answer, NotLooked, ORPHANS, Orphan, OrphansAnswer, OrphansQuestion, cut_text, refusal};
use driftless_protocol::marks;
use driftless_protocol::object::ObjectKey;
use driftless_reconcile::orphan::{self, Meta, Standing};
use driftless_reconcile::time;
use serde::Deserialize;

use super::Look;
use crate::cluster::api::{ApiError, PageQuery, Resource};
use crate::cluster::discovery::Served;

/// Objects per page; an object's metadata may have a quarter of a megabyte of annotations.
const PAGE: u32 = 250;
/// The shortest page that is tried when one was too long.
const SHORT: u32 = 10;
/// Objects looked at in one answer.
const OBJECTS: u64 = 100_000;
/// Namespaces and kinds a question may name.
const NAMED: usize = 100;

#[derive(Debug, Deserialize)]
struct Item {
    metadata: Meta,
}

pub(super) async fn answer(look: &Look, question: OrphansQuestion) -> Result<Answer, Answer> {
    if question.namespaces.len() > NAMED || question.kinds.len() > NAMED {
        return Err(Answer::refused(refusal::TOO_MUCH, format!("at most {NAMED} namespaces and kinds can be named")));
    }
    // Whether anything can be told at all, before anything is read.
    look.known(Vec::new()).await?;
    let kinds = Served::listable(look.api.client()).await;
    let kinds = kinds.map_err(|e| Answer::refused(refusal::FAILED, e.to_string()))?;
    let wanted = |r: &Resource| {
        question.kinds.is_empty()
            || question.kinds.iter().any(|k| match k.split_once('.') {
                Some((kind, group)) => r.kind.eq_ignore_ascii_case(kind) && r.group == group,
                None => r.kind.eq_ignore_ascii_case(k),
            })
    };
    let mut search = Search { look, question: &question, found: OrphansAnswer::default() };
    let mut namespaces: BTreeSet<&str> = question.namespaces.iter().map(String::as_str).collect();
    if namespaces.is_empty() {
        namespaces.insert("");
    }
    for resource in kinds.iter().filter(|r| wanted(r)) {
        if orphan::is_record(&resource.group, &resource.kind) && !question.system {
            continue;
        }
        if !question.namespaces.is_empty() && !resource.namespaced {
            continue;
        }
        search.found.kinds += 1;
        for namespace in &namespaces {
            if let Err(why) = search.kind(resource, namespace).await? {
                search.not_looked(resource, why);
            }
        }
    }
    let mut found = search.found;
    found.orphans.sort_by(|a, b| {
        let of = |o: &Orphan| (o.key.namespace.clone(), o.key.kind.clone(), o.key.group.clone(), o.key.name.clone());
        of(a).cmp(&of(b))
    });
    Ok(Answer::Orphans(found))
}

struct Search<'a> {
    look: &'a Look,
    question: &'a OrphansQuestion,
    found: OrphansAnswer,
}

impl Search<'_> {
    fn not_looked(&mut self, resource: &Resource, mut why: String) {
        cut_text(&mut why);
        let kind = match resource.group.as_str() {
            "" => resource.kind.clone(),
            group => format!("{}.{group}", resource.kind),
        };
        self.found.not_looked.push(NotLooked { kind, why });
    }

    /// All objects of a kind; `Ok(Err)`: why not all of them.
    async fn kind(&mut self, resource: &Resource, namespace: &str) -> Result<Result<(), String>, Answer> {
        let mut from: Option<String> = None;
        let mut limit = PAGE;
        loop {
            if self.found.looked >= OBJECTS {
                return Ok(Err(format!("{OBJECTS} objects were looked at before; ask for namespaces or kinds alone")));
            }
            if self.look.is_over() {
                return Ok(Err("the time was over; ask for namespaces or kinds alone".to_owned()));
            }
            let query = PageQuery { limit, from: from.as_deref(), ..PageQuery::default() };
            let page = self.look.api.metadata_page::<Item>(&self.look.actor, resource, namespace, &query).await;
            let page = match page {
                Ok(page) => page,
                Err(ApiError::TooLong) if limit > SHORT => {
                    limit = SHORT;
                    continue;
                }
                Err(error) => return Ok(Err(error.to_string())),
            };
            let next = page.next();
            self.page(resource, page.items.into_iter().map(|item| item.metadata).collect()).await?;
            match next {
                Some(next) => from = Some(next),
                None => return Ok(Ok(())),
            }
        }
    }

    async fn page(&mut self, resource: &Resource, items: Vec<Meta>) -> Result<(), Answer> {
        let keys: Vec<ObjectKey> = items
            .iter()
            .map(|meta| ObjectKey {
                group: resource.group.as_str().into(),
                kind: resource.kind.as_str().into(),
                namespace: meta.namespace.as_str().into(),
                name: meta.name.as_str().into(),
            })
            .collect();
        let known = self.look.known(keys.clone()).await?;
        for ((key, meta), known) in keys.into_iter().zip(items).zip(known) {
            self.found.looked += 1;
            if known {
                self.found.skipped.declared += 1;
                continue;
            }
            let system = match orphan::judge(&key, &meta, marks::AGENT_NAMESPACE) {
                Standing::Child => {
                    self.found.skipped.owned += 1;
                    continue;
                }
                Standing::System(why) => {
                    self.found.skipped.system += 1;
                    if !self.question.system {
                        continue;
                    }
                    Some(why.to_owned())
                }
                Standing::Orphan => None,
            };
            self.found.found += 1;
            if self.found.orphans.len() < ORPHANS {
                let cut = |text: Option<String>| {
                    text.map(|mut text| {
                        cut_text(&mut text);
                        text
                    })
                };
                self.found.orphans.push(Orphan {
                    key,
                    created: meta.creation_timestamp.as_deref().and_then(time::parse),
                    owner: cut(orphan::owner(&meta)),
                    manager: cut(orphan::first_manager(&meta)),
                    system,
                });
            }
        }
        Ok(())
    }
}
