//! From a text to [`Written`] values.

use super::comments::{Comments, Place};
use super::{Content, Style, Written};
use crate::libyaml::{Event, Mark, Parser};
use crate::limits::Limits;
use crate::node::Kind;
use crate::resolve::{Dialect, resolve};

/// A value as it stands in the text, before comments are given out.
enum Frame {
    Seq { flow: bool, items: Vec<Written>, place: usize },
    Map { flow: bool, entries: Vec<(Written, Written)>, key: Option<Written>, place: usize },
}

/// Reads the first document.
pub(super) fn parse(text: &str, limits: &Limits) -> Option<Written> {
    let places = scan(text, limits)?;
    let mut comments = Comments::new(text, &places);
    let mut parser = Parser::new(text.as_bytes());
    let mut frames: Vec<Frame> = Vec::new();
    let mut at = 0;
    loop {
        let (event, _) = parser.next().ok()?;
        let done = match event {
            Event::StreamStart | Event::DocumentStart { .. } => continue,
            Event::StreamEnd | Event::DocumentEnd | Event::Alias { .. } => return None,
            Event::Scalar { value, plain, folded, single, literal, .. } => {
                let style = match (plain, single, literal, folded) {
                    (true, ..) => Style::Plain,
                    (_, true, ..) => Style::Single,
                    (_, _, true, _) => Style::Literal,
                    (_, _, _, true) => Style::Folded,
                    _ => Style::Double,
                };
                let kind = if plain { resolve(value, Dialect::Resource) } else { Kind::Str };
                let mut written = Written::new(Content::Scalar { text: value.to_owned(), kind, style });
                comments.give(at, &mut written);
                at += 1;
                written
            }
            Event::SequenceStart { flow, .. } => {
                frames.push(Frame::Seq { flow, items: Vec::new(), place: at });
                at += 1;
                continue;
            }
            Event::MappingStart { flow, .. } => {
                frames.push(Frame::Map { flow, entries: Vec::new(), key: None, place: at });
                at += 1;
                continue;
            }
            Event::SequenceEnd | Event::MappingEnd => {
                let (content, place) = match frames.pop()? {
                    Frame::Seq { flow, items, place } => (Content::Seq { flow, items }, place),
                    Frame::Map { flow, entries, place, .. } => (Content::Map { flow, entries }, place),
                };
                let mut written = Written::new(content);
                comments.give(place, &mut written);
                written
            }
        };
        match frames.last_mut() {
            None => return Some(done),
            Some(Frame::Seq { items, .. }) => items.push(done),
            Some(Frame::Map { entries, key, .. }) => match key.take() {
                None => *key = Some(done),
                Some(key) => entries.push((key, done)),
            },
        }
    }
}

/// Where the values of the first document stand, in the order in which they start. `None` for what is not followed.
fn scan(text: &str, limits: &Limits) -> Option<Vec<Place>> {
    let mut parser = Parser::new(text.as_bytes());
    let mut places: Vec<Place> = Vec::new();
    // The lists and maps around, and how many values a map has had: even ones are keys.
    let mut open: Vec<(usize, Option<usize>)> = Vec::new();
    loop {
        let (event, start) = parser.next().ok()?;
        let (scalar, flow, map) = match event {
            Event::StreamStart | Event::DocumentStart { .. } => continue,
            Event::StreamEnd | Event::DocumentEnd => return Some(places),
            Event::Alias { .. } => return None,
            Event::Scalar { anchor: Some(_), .. } | Event::Scalar { tag: Some(_), .. } => return None,
            Event::SequenceStart { anchor: Some(_), .. } | Event::MappingStart { anchor: Some(_), .. } => return None,
            Event::Scalar { .. } => (true, false, false),
            Event::SequenceStart { flow, .. } => (false, flow, false),
            Event::MappingStart { flow, .. } => (false, flow, true),
            Event::SequenceEnd | Event::MappingEnd => {
                let end = parser.end();
                if let Some((at, _)) = open.pop()
                    && places[at].flow
                {
                    places[at].end = end;
                }
                if open.is_empty() {
                    return Some(places);
                }
                continue;
            }
        };
        if places.len() >= limits.nodes || open.len() >= limits.depth() {
            return None;
        }
        let (key, parent) = match open.last_mut() {
            Some((at, Some(seen))) => {
                *seen += 1;
                (*seen % 2 == 1, Some(*at))
            }
            Some((at, None)) => (false, Some(*at)),
            None => (false, None),
        };
        let end: Mark = parser.end();
        // A key that is a list or a map is nothing Kubernetes or its programs know.
        if key && !scalar {
            return None;
        }
        let at = places.len();
        places.push(Place { start, end, scalar, flow, key, parent, map });
        if scalar {
            if open.is_empty() {
                return Some(places);
            }
        } else {
            open.push((at, map.then_some(0)));
        }
    }
}
