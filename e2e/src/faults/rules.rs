//! Which requests a fault meets, how often, and what happens to them.

use std::time::Duration;

use http::Method;

/// Which requests. What is not said matches everything.
#[derive(Clone, Debug, Default)]
pub struct Which {
    methods: Vec<Method>,
    parts: Vec<String>,
    without: Vec<String>,
    content: Option<String>,
    watch: Option<bool>,
}

/// A request, as rules see it.
#[derive(Clone, Copy, Debug)]
pub struct Asked<'a> {
    /// `PATCH`.
    pub method: &'a Method,
    /// Path and query.
    pub uri: &'a str,
    /// `Content-Type`; empty when there is none.
    pub content: &'a str,
}

impl Asked<'_> {
    /// A watch: its answer has no end.
    #[must_use]
    pub fn is_watch(&self) -> bool {
        self.uri
            .split_once('?')
            .is_some_and(|(_, query)| query.split('&').any(|p| matches!(p, "watch=true" | "watch=1")))
    }
}

impl Which {
    /// Every request.
    #[must_use]
    pub fn any() -> Self {
        Self::default()
    }

    /// Requests with one of these methods.
    #[must_use]
    pub fn methods<const N: usize>(methods: [Method; N]) -> Self {
        Self { methods: methods.into(), ..Self::default() }
    }

    /// Requests that change something.
    #[must_use]
    pub fn writes() -> Self {
        Self::methods([Method::POST, Method::PUT, Method::PATCH, Method::DELETE])
    }

    /// Watches.
    #[must_use]
    pub fn watches() -> Self {
        Self { watch: Some(true), ..Self::default() }
    }

    /// Whose address holds this text.
    #[must_use]
    pub fn at(mut self, part: &str) -> Self {
        self.parts.push(part.to_owned());
        self
    }

    /// Whose address does not hold this text.
    #[must_use]
    pub fn but(mut self, part: &str) -> Self {
        self.without.push(part.to_owned());
        self
    }

    /// Whose body is of this type.
    #[must_use]
    pub fn content(mut self, content: &str) -> Self {
        self.content = Some(content.to_owned());
        self
    }

    /// Whether it means this request.
    #[must_use]
    pub fn matches(&self, asked: &Asked<'_>) -> bool {
        (self.methods.is_empty() || self.methods.contains(asked.method))
            && self.parts.iter().all(|part| asked.uri.contains(part))
            && !self.without.iter().any(|part| asked.uri.contains(part))
            && self.content.as_ref().is_none_or(|content| asked.content.starts_with(content))
            && self.watch.is_none_or(|watch| watch == asked.is_watch())
    }
}

/// What happens to a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// It is answered with this status and never reaches the API server.
    Refuse {
        /// HTTP status.
        status: u16,
        /// `Retry-After`, in seconds.
        retry_after: Option<u32>,
    },
    /// A watch is told that the version it asks from is too old.
    Expired,
    /// The connection is closed; the request is not passed on.
    ResetBefore,
    /// The request is passed on and carried out; the connection is closed in the place of the answer.
    ResetAfter,
    /// It is passed on after this time, also when nobody waits for its answer any more.
    Delay(Duration),
    /// It is never answered, and [`stalled`](super::proxy::FaultProxy::stalled) tells: the moment to kill whoever asked.
    Stall {
        /// Whether it is passed on and carried out first.
        carried_out: bool,
    },
}

/// One fault, for some requests.
#[derive(Clone, Debug)]
pub struct Rule {
    which: Which,
    fault: Fault,
    skip: usize,
    every: usize,
    times: usize,
}

impl Rule {
    /// This fault for every request of this kind.
    #[must_use]
    pub fn new(which: Which, fault: Fault) -> Self {
        Self { which, fault, skip: 0, every: 1, times: usize::MAX }
    }

    /// The first so many are left alone.
    #[must_use]
    pub fn after(mut self, skip: usize) -> Self {
        self.skip = skip;
        self
    }

    /// Only one of so many.
    #[must_use]
    pub fn one_of(mut self, every: usize) -> Self {
        self.every = every.max(1);
        self
    }

    /// At most so many times.
    #[must_use]
    pub fn times(mut self, times: usize) -> Self {
        self.times = times;
        self
    }

    /// Exactly once.
    #[must_use]
    pub fn once(self) -> Self {
        self.times(1)
    }
}

/// Rules at work, in order: the first that wants a request has it.
#[derive(Debug, Default)]
pub struct Rules {
    active: Vec<Active>,
}

#[derive(Debug)]
struct Active {
    rule: Rule,
    met: usize,
    fired: usize,
}

impl Rules {
    /// These rules from now on, counted from nothing.
    pub fn set(&mut self, rules: Vec<Rule>) {
        self.active = rules.into_iter().map(|rule| Active { rule, met: 0, fired: 0 }).collect();
    }

    /// What happens to a request. Every rule that means it counts it, also when an earlier one has it.
    pub fn take(&mut self, asked: &Asked<'_>) -> Option<Fault> {
        let mut fault = None;
        for active in &mut self.active {
            let Active { rule, met, fired } = active;
            if !rule.which.matches(asked) {
                continue;
            }
            *met += 1;
            let due = *met > rule.skip && (*met - rule.skip - 1) % rule.every == 0 && *fired < rule.times;
            if due && fault.is_none() {
                *fired += 1;
                fault = Some(rule.fault.clone());
            }
        }
        fault
    }

    /// How often any of them struck.
    #[must_use]
    pub fn fired(&self) -> usize {
        self.active.iter().map(|active| active.fired).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked<'a>(method: &'a Method, uri: &'a str) -> Asked<'a> {
        Asked { method, uri, content: "" }
    }

    #[test]
    fn a_rule_counts_what_it_means_only() {
        let mut rules = Rules::default();
        let refuse = Fault::Refuse { status: 429, retry_after: Some(1) };
        rules.set(vec![Rule::new(Which::writes().at("/configmaps"), refuse.clone()).after(1).one_of(2).times(2)]);
        let mut hits = Vec::new();
        for n in 0..8 {
            assert_eq!(rules.take(&asked(&Method::GET, "/api/v1/configmaps")), None);
            assert_eq!(rules.take(&asked(&Method::PUT, "/api/v1/secrets/x")), None);
            if rules.take(&asked(&Method::PUT, "/api/v1/configmaps/x")) == Some(refuse.clone()) {
                hits.push(n);
            }
        }
        assert_eq!(hits, [1, 3], "one is skipped, then every second, twice at most");
        assert_eq!(rules.fired(), 2);
    }

    #[test]
    fn the_first_rule_that_wants_it_has_it_and_the_others_count_it() {
        let mut rules = Rules::default();
        rules.set(vec![
            Rule::new(Which::any(), Fault::ResetBefore).once(),
            Rule::new(Which::any(), Fault::ResetAfter).after(1).once(),
        ]);
        let method = Method::GET;
        let got: Vec<_> = (0..3).map(|_| rules.take(&asked(&method, "/x"))).collect();
        assert_eq!(got, [Some(Fault::ResetBefore), Some(Fault::ResetAfter), None]);
    }

    #[test]
    fn watches_are_told_from_lists() {
        let method = Method::GET;
        assert!(Which::watches().matches(&asked(&method, "/api/v1/pods?limit=5&watch=true")));
        assert!(!Which::watches().matches(&asked(&method, "/api/v1/pods?limit=5")));
        assert!(!Which::watches().matches(&asked(&method, "/api/v1/namespaces/watch=true")));
    }
}
