//! What is the matter with a container, by its status.

use serde_json::Value;

use super::{Found, Rank, text, when};
use crate::why::list;

/// The first container that is in trouble, init containers first.
pub(super) fn look(pod: &Value) -> Option<Found> {
    let (namespace, name) = (text(pod, "/metadata/namespace").unwrap_or_default(), text(pod, "/metadata/name")?);
    let all = [("init container", "/status/initContainerStatuses"), ("container", "/status/containerStatuses")];
    let mut best: Option<Found> = None;
    for (what, pointer) in all {
        for status in list(pod, pointer) {
            let container = Container {
                what,
                name: text(status, "/name").unwrap_or_default(),
                image: text(status, "/image")
                    .filter(|i| !i.is_empty())
                    .or_else(|| image(pod, status))
                    .unwrap_or_default(),
                status,
                logs: format!("kubectl -n {namespace} logs {name} -c {}", text(status, "/name").unwrap_or_default()),
            };
            if let Some(found) = container.look()
                && best.as_ref().is_none_or(|b| found.rank < b.rank)
            {
                best = Some(found);
            }
        }
    }
    best
}

/// A status may leave its image empty until it was pulled.
fn image<'a>(pod: &'a Value, status: &Value) -> Option<&'a str> {
    let name = text(status, "/name")?;
    let all = list(pod, "/spec/initContainers").chain(list(pod, "/spec/containers"));
    all.filter(|c| text(c, "/name") == Some(name)).find_map(|c| text(c, "/image"))
}

struct Container<'a> {
    what: &'static str,
    name: &'a str,
    image: &'a str,
    status: &'a Value,
    logs: String,
}

impl Container<'_> {
    fn look(&self) -> Option<Found> {
        let (reason, message) =
            (text(self.status, "/state/waiting/reason"), text(self.status, "/state/waiting/message"));
        let message = message.unwrap_or_default();
        let last = self.status.pointer("/lastState/terminated");
        match reason {
            Some(
                "ErrImagePull"
                | "ImagePullBackOff"
                | "InvalidImageName"
                | "ErrImageNeverPull"
                | "RegistryUnavailable"
                | "ImageInspectError",
            ) => Some(pull(self.what, self.name, self.image, reason.unwrap_or_default(), message)),
            Some("CreateContainerConfigError") => Some(self.config(message)),
            Some(
                "CreateContainerError"
                | "RunContainerError"
                | "PreCreateHookError"
                | "PreStartHookError"
                | "PostStartHookError",
            ) => Some(self.not_created(reason.unwrap_or_default(), message)),
            Some("CrashLoopBackOff") => Some(self.crashes(last.or_else(|| self.status.pointer("/state/terminated")))),
            _ => match self.status.pointer("/state/terminated") {
                Some(ended) if exit_code(ended) != 0 => Some(self.crashes(Some(ended))),
                // Between two attempts it may run for a moment.
                _ => last
                    .filter(|last| {
                        exit_code(last) != 0 && self.status.get("ready").and_then(Value::as_bool) != Some(true)
                    })
                    .map(|last| self.crashes(Some(last))),
            },
        }
    }

    fn config(&self, message: &str) -> Found {
        let (code, hint) = if message.contains("runAsNonRoot") {
            (
                "RunsAsRoot",
                "set securityContext.runAsUser to a number other than 0, or use an image whose user is not root"
                    .to_owned(),
            )
        } else if message.contains("not found") || message.contains("couldn't find key") {
            (
                "ConfigMissing",
                "declare what is missing in Git (or let whoever makes it do so), or mark the reference optional"
                    .to_owned(),
            )
        } else {
            ("ConfigUnusable", "correct the container's env, envFrom or securityContext".to_owned())
        };
        let message = format!("{} {} cannot be made: {message}", self.what, self.name);
        Found { rank: Rank::CannotStart, code, message, hint, since: None }
    }

    fn not_created(&self, reason: &str, message: &str) -> Found {
        let command = message.contains("executable file not found") || message.contains("no such file or directory");
        let (code, hint) = if command {
            ("CommandNotFound", "correct command and args: the image has no such program")
        } else {
            (
                "ContainerNotStarted",
                "the node's container runtime refuses it: correct the container, or look at the node",
            )
        };
        let message = format!("{} {} cannot be started ({reason}): {message}", self.what, self.name);
        Found { rank: Rank::CannotStart, code, message, hint: hint.to_owned(), since: None }
    }

    fn crashes(&self, ended: Option<&Value>) -> Found {
        let restarts = self.status.get("restartCount").and_then(Value::as_u64).unwrap_or(0);
        let times = match restarts {
            0 => String::new(),
            1 => " (restarted once)".to_owned(),
            n => format!(" (restarted {n} times)"),
        };
        let Some(ended) = ended else {
            let message = format!("{} {} exits again and again{times}", self.what, self.name);
            return Found { rank: Rank::Crashes, code: "CrashLoop", message, hint: self.ask_log(true), since: None };
        };
        let code = exit_code(ended);
        let reason = text(ended, "/reason").unwrap_or_default();
        let words = text(ended, "/message").map(str::trim).filter(|m| !m.is_empty());
        let said = words.map(|w| format!(", its last words: {w:?}")).unwrap_or_default();
        let since = when(ended, "/finishedAt");
        let (what, name) = (self.what, self.name);
        if reason == "OOMKilled" {
            return Found {
                rank: Rank::Crashes,
                code: "OutOfMemory",
                message: format!(
                    "{what} {name} was killed for want of memory{times}: it needs more than its limit{said}"
                ),
                hint: "raise resources.limits.memory, or make it use less".to_owned(),
                since,
            };
        }
        let (meaning, hint) = match code {
            0 => (
                " (it ends by itself, and something that goes on is expected)",
                "let its command run for ever, or use a Job".to_owned(),
            ),
            126 | 127 => (" (its command cannot be run)", "correct command and args, or the image".to_owned()),
            137 => (" (killed)", "look whether a liveness probe fails, or the node runs out of memory".to_owned()),
            139 => (" (it crashed: segmentation fault)", self.ask_log(restarts > 0)),
            143 => (" (asked to end)", "look whether a liveness or startup probe fails".to_owned()),
            _ => ("", self.ask_log(restarts > 0)),
        };
        let again = if restarts > 0 { "exits again and again" } else { "ended" };
        Found {
            rank: Rank::Crashes,
            code: "CrashLoop",
            message: format!("{what} {name} {again}{times}: exit code {code}{meaning}{said}"),
            hint,
            since,
        }
    }

    fn ask_log(&self, previous: bool) -> String {
        format!("its log says more: {}{}", self.logs, if previous { " --previous" } else { "" })
    }
}

fn exit_code(ended: &Value) -> i64 {
    ended.get("exitCode").and_then(Value::as_i64).unwrap_or(0)
}

/// Why an image cannot be pulled, by the words of a container runtime.
pub(super) fn pull(what: &str, name: &str, image: &str, reason: &str, message: &str) -> Found {
    let lower = message.to_lowercase();
    let has = |words: &[&str]| words.iter().any(|word| lower.contains(word));
    let (code, why, hint) = if reason == "InvalidImageName" {
        ("ImageNameInvalid", "that is no image name", "correct the image in Git")
    } else if reason == "ErrImageNeverPull" {
        (
            "ImageNotPresent",
            "the node does not have it and imagePullPolicy is Never",
            "change imagePullPolicy, or load the image onto the nodes",
        )
    } else if has(&["unauthorized", "denied", "authentication required", "no basic auth", "403 forbidden", "401"]) {
        (
            "ImageForbidden",
            "the registry does not let this cluster have it (or it is not there)",
            "check imagePullSecrets of the pod and of its service account, and the image's name",
        )
    } else if has(&["no matching manifest", "no match for platform"]) {
        (
            "ImageWrongPlatform",
            "it does not exist for the nodes' architecture",
            "build it for that architecture, or select other nodes",
        )
    } else if has(&["not found", "manifest unknown", "no such manifest", "does not exist"]) {
        ("ImageNotFound", "there is no such image or tag", "correct the image or its tag in Git, or publish it")
    } else if has(&["toomanyrequests", "too many requests", "429"]) {
        (
            "RegistryLimit",
            "the registry limits how often this cluster may pull",
            "pull with credentials, or through a mirror",
        )
    } else if has(&["no such host", "timeout", "connection refused", "dial tcp", "x509", "tls:", "unreachable", "eof"])
    {
        (
            "RegistryUnreachable",
            "the registry cannot be reached from the node",
            "check name, network, proxy and certificates between node and registry",
        )
    } else {
        ("ImagePullFailed", "the pull fails", "the node's words are in the Events of the pod")
    };
    let image = if image.is_empty() { "its image".to_owned() } else { format!("image {image:?}") };
    let words = if message.is_empty() { String::new() } else { format!(" ({message})") };
    Found {
        rank: Rank::CannotStart,
        code,
        message: format!("{image} of {what} {name} cannot be pulled: {why}{words}"),
        hint: hint.to_owned(),
        since: None,
    }
}
