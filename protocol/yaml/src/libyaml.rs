//! The event stream of libyaml: the only unsafe code of the workspace.
//!
//! `libyaml-rs` is libyaml translated to Rust: raw pointers, manual ownership. This file turns it into an iterator of
//! borrowed events and nothing else. What holds it together:
//!
//! * The parser struct is boxed and reached by raw pointer only, because libyaml stores the parser's own address in it.
//! * The input outlives the parser (`'i`), because libyaml reads from it by pointer.
//! * At most one event is alive; it is deleted before the next is parsed and in `Drop`. What an [`Event`] borrows
//!   belongs to that event, and [`Parser::next`] takes `&mut self`, so no borrow survives the deletion.
//! * After an error or the end of the stream libyaml is not called again.

#![allow(unsafe_code)]

use std::ffi::CStr;
use std::marker::PhantomData;
use std::mem::MaybeUninit;

use libyaml_rs as sys;

/// A place in the input, both numbers from 0, as libyaml counts them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Mark {
    pub(crate) line: u64,
    pub(crate) column: u64,
}

/// Why libyaml stopped.
#[derive(Debug)]
pub(crate) struct ScanError {
    /// What is wrong, in libyaml's words.
    pub(crate) problem: &'static str,
    /// What was being read, when libyaml says so, and where that began.
    pub(crate) context: Option<(&'static str, Mark)>,
    pub(crate) mark: Mark,
    /// Set when the bytes are no text at all: the byte where that was seen. The mark says nothing then.
    pub(crate) offset: Option<u64>,
}

/// One event; text is borrowed from libyaml until the next one.
#[derive(Debug)]
pub(crate) enum Event<'e> {
    StreamStart,
    StreamEnd,
    DocumentStart {
        /// Of a `%YAML` line.
        version: Option<(i32, i32)>,
    },
    DocumentEnd,
    Alias {
        anchor: &'e str,
    },
    Scalar {
        anchor: Option<&'e str>,
        tag: Option<&'e str>,
        value: &'e str,
        /// Written without quotes and not as a block.
        plain: bool,
        /// Written as a `>` block.
        folded: bool,
        /// Written in single quotes.
        single: bool,
        /// Written as a `|` block.
        literal: bool,
    },
    SequenceStart {
        anchor: Option<&'e str>,
        /// Written in brackets.
        flow: bool,
    },
    SequenceEnd,
    MappingStart {
        anchor: Option<&'e str>,
        /// Written in braces.
        flow: bool,
    },
    MappingEnd,
}

/// A libyaml parser over one text.
pub(crate) struct Parser<'i> {
    /// From `Box::into_raw`; initialised in `new`, freed in `drop`.
    parser: *mut sys::yaml_parser_t,
    /// The event that is alive, if any.
    event: Option<sys::yaml_event_t>,
    /// Nothing more may be asked of libyaml.
    done: bool,
    input: PhantomData<&'i [u8]>,
}

impl<'i> Parser<'i> {
    pub(crate) fn new(input: &'i [u8]) -> Self {
        let parser = Box::into_raw(Box::new(MaybeUninit::<sys::yaml_parser_t>::uninit())).cast::<sys::yaml_parser_t>();
        // SAFETY: `parser` points to memory of the right size and alignment that we own; initialisation writes all of
        // it and cannot fail (it aborts when memory is exhausted). The input outlives `Self` by the lifetime `'i`, and
        // a slice's pointer is never null.
        unsafe {
            let _always_ok = sys::yaml_parser_initialize(parser);
            sys::yaml_parser_set_input_string(parser, input.as_ptr(), input.len() as u64);
        }
        Self { parser, event: None, done: false, input: PhantomData }
    }

    /// The next event and where it starts. After the end of the stream, or an error, the end of the stream again.
    pub(crate) fn next(&mut self) -> Result<(Event<'_>, Mark), ScanError> {
        self.delete_event();
        if self.done {
            return Ok((Event::StreamEnd, Mark { line: 0, column: 0 }));
        }
        let mut event = MaybeUninit::<sys::yaml_event_t>::uninit();
        // SAFETY: the parser is initialised and has neither failed nor ended; libyaml fills the whole event (it zeroes
        // it first), so that it is initialised whatever the result.
        let event = unsafe {
            if sys::yaml_parser_parse(self.parser, event.as_mut_ptr()).fail {
                self.done = true;
                return Err(self.error());
            }
            event.assume_init()
        };
        let mark = mark(event.start_mark);
        let event = self.event.insert(event);
        // SAFETY: libyaml sets the union member that belongs to `type_`; its strings are null or NUL-terminated (the
        // scalar's value has a length) and stay until `delete_event`, which needs `&mut self`.
        let view = unsafe {
            match event.type_ {
                sys::YAML_STREAM_START_EVENT => Event::StreamStart,
                sys::YAML_STREAM_END_EVENT => {
                    self.done = true;
                    Event::StreamEnd
                }
                sys::YAML_DOCUMENT_START_EVENT => {
                    let version = event.data.document_start.version_directive;
                    Event::DocumentStart { version: version.as_ref().map(|v| (v.major, v.minor)) }
                }
                sys::YAML_DOCUMENT_END_EVENT => Event::DocumentEnd,
                sys::YAML_ALIAS_EVENT => Event::Alias { anchor: text(event.data.alias.anchor).unwrap_or_default() },
                sys::YAML_SCALAR_EVENT => {
                    let scalar = &event.data.scalar;
                    let length = usize::try_from(scalar.length).unwrap_or(0);
                    let value = std::slice::from_raw_parts(scalar.value, length);
                    Event::Scalar {
                        anchor: text(scalar.anchor),
                        tag: text(scalar.tag),
                        // libyaml checks its input and its escapes; checked again, because a `str` must be UTF-8.
                        value: std::str::from_utf8(value).unwrap_or_default(),
                        plain: scalar.style == sys::yaml_scalar_style_t::YAML_PLAIN_SCALAR_STYLE,
                        folded: scalar.style == sys::yaml_scalar_style_t::YAML_FOLDED_SCALAR_STYLE,
                        single: scalar.style == sys::yaml_scalar_style_t::YAML_SINGLE_QUOTED_SCALAR_STYLE,
                        literal: scalar.style == sys::yaml_scalar_style_t::YAML_LITERAL_SCALAR_STYLE,
                    }
                }
                sys::YAML_SEQUENCE_START_EVENT => {
                    let start = &event.data.sequence_start;
                    let flow = start.style == sys::yaml_sequence_style_t::YAML_FLOW_SEQUENCE_STYLE;
                    Event::SequenceStart { anchor: text(start.anchor), flow }
                }
                sys::YAML_SEQUENCE_END_EVENT => Event::SequenceEnd,
                sys::YAML_MAPPING_START_EVENT => {
                    let start = &event.data.mapping_start;
                    let flow = start.style == sys::yaml_mapping_style_t::YAML_FLOW_MAPPING_STYLE;
                    Event::MappingStart { anchor: text(start.anchor), flow }
                }
                sys::YAML_MAPPING_END_EVENT => Event::MappingEnd,
                _ => {
                    self.done = true;
                    Event::StreamEnd
                }
            }
        };
        Ok((view, mark))
    }

    /// Where the event that is alive ends.
    pub(crate) fn end(&self) -> Mark {
        self.event.as_ref().map_or(Mark { line: 0, column: 0 }, |event| mark(event.end_mark))
    }

    /// The error that `yaml_parser_parse` has just reported.
    fn error(&self) -> ScanError {
        // SAFETY: the parser is initialised; `problem` and `context` are null or C string literals of the library.
        unsafe {
            let parser: &sys::yaml_parser_t = &*self.parser;
            let problem = literal(parser.problem).unwrap_or("not YAML");
            let context = literal(parser.context).map(|c| (c, mark(parser.context_mark)));
            let offset = (parser.error == sys::YAML_READER_ERROR).then_some(parser.problem_offset);
            ScanError { problem, context, mark: mark(parser.problem_mark), offset }
        }
    }

    fn delete_event(&mut self) {
        if let Some(mut event) = self.event.take() {
            // SAFETY: the event was filled by `yaml_parser_parse`, is owned by us and is deleted once, being taken.
            unsafe { sys::yaml_event_delete(&raw mut event) };
        }
    }
}

impl Drop for Parser<'_> {
    fn drop(&mut self) {
        self.delete_event();
        // SAFETY: the pointer came from `Box::into_raw` of this very type behind `MaybeUninit` (same layout), was
        // initialised in `new`, and nothing uses it after this.
        unsafe {
            sys::yaml_parser_delete(self.parser);
            drop(Box::from_raw(self.parser.cast::<MaybeUninit<sys::yaml_parser_t>>()));
        }
    }
}

fn mark(m: sys::yaml_mark_t) -> Mark {
    Mark { line: m.line, column: m.column }
}

/// A NUL-terminated string owned by the event that is alive.
///
/// # Safety
/// `at` is null, or points to a NUL-terminated string that lives for `'e`.
unsafe fn text<'e>(at: *const u8) -> Option<&'e str> {
    if at.is_null() {
        return None;
    }
    // SAFETY: by the caller's promise.
    let bytes = unsafe { CStr::from_ptr(at.cast()) };
    Some(bytes.to_str().unwrap_or_default())
}

/// A message of the library.
///
/// # Safety
/// `at` is null, or points to a C string literal.
unsafe fn literal(at: *const i8) -> Option<&'static str> {
    // SAFETY: by the caller's promise; literals live for ever.
    unsafe { text::<'static>(at.cast()) }
}
