//! CEL, as Flux's `healthCheckExprs` and `readyExpr` use it: questions about objects, answered with true or false.
//!
//! The only place that names the CEL library. Expressions come from Git and objects from the cluster, so both are bounded
//! before anything is parsed or evaluated: [`MAX_LEN`], [`MAX_NESTING`], [`MAX_OPERATORS`], [`MAX_LOOPS`], [`MAX_COST`]. Regular expressions
//! inside expressions take linear time (crate `regex`).
#![warn(missing_docs)]

mod optional;

use std::collections::{BTreeSet, HashMap};
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use kube_cel::KubeCelExt;
use kube_cel::cel::common::ast::{EntryExpr, Expr};
use kube_cel::cel::objects::{Key, Map};
use kube_cel::cel::parser::{Expression, Parser};
use kube_cel::cel::{Context, ExecutionError, Value as CelValue};
use serde_json::Value;

/// Longest expression, in bytes. The longest in Flux's own collection has about 400.
pub const MAX_LEN: usize = 4096;
/// Deepest nesting of brackets, `!`, `-` and `a ? b : c`: the parser recurses.
pub const MAX_NESTING: usize = 32;
/// Most characters that make operators, selections and calls: `a + b + c` and `a.b.c` nest, too.
pub const MAX_OPERATORS: usize = 512;
/// The same where optional fields (`a.?b`) are written out.
const MAX_OPERATORS_OPTIONAL: usize = 128;
/// Macros (`all`, `exists`, `filter`, `map`) inside each other.
pub const MAX_LOOPS: u32 = 3;
/// Most rounds of the innermost macro, by the longest list or map of the objects at hand.
pub const MAX_COST: u64 = 1_000_000;

/// A compiled expression.
#[derive(Clone)]
pub struct Question {
    text: Arc<str>,
    parsed: Arc<Expression>,
    shape: Shape,
}

impl fmt::Debug for Question {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Question({:?})", self.text)
    }
}

impl PartialEq for Question {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl Eq for Question {}

/// Why an expression cannot be used, or gave no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CelError {
    /// Beyond [`MAX_LEN`], [`MAX_NESTING`] or [`MAX_LOOPS`].
    #[error("the expression is too large: {0}")]
    TooLarge(String),
    /// It cannot be parsed.
    #[error("the expression cannot be read: {0}")]
    Syntax(String),
    /// It calls a function that does not exist.
    #[error("there is no function {0}()")]
    NoFunction(String),
    /// It names a variable that it is not given.
    #[error("there is no variable {0}; it may use {1}")]
    NoVariable(String, String),
    /// Beyond [`MAX_COST`].
    #[error("it would take more than {MAX_COST} rounds over these objects")]
    TooCostly,
    /// It failed on these objects: most often a field is not there (yet).
    #[error("{0}")]
    Failed(String),
    /// Its value is neither true nor false.
    #[error("it gives {0}, and not true or false")]
    NoBoolean(String),
}

impl Question {
    /// Compiles an expression. What it may name as variables is checked by [`Question::uses_only`].
    pub fn compile(text: &str) -> Result<Self, CelError> {
        if text.len() > MAX_LEN {
            return Err(CelError::TooLarge(format!("{} bytes, at most {MAX_LEN}", text.len())));
        }
        let nesting = nesting(text);
        if nesting > MAX_NESTING {
            return Err(CelError::TooLarge(format!("nested {nesting} deep, at most {MAX_NESTING}")));
        }
        let optional = text.contains(".?");
        let most = if optional { MAX_OPERATORS_OPTIONAL } else { MAX_OPERATORS };
        let operators = text.bytes().filter(|b| b"+-*/%<>=!&|.?:[({".contains(b)).count();
        if operators > most {
            return Err(CelError::TooLarge(format!("{operators} operators, at most {most}")));
        }
        // The library has panicked on odd input before; one expression must not take the program with it.
        let parse = || Parser::default().enable_optional_syntax(true).parse(text);
        let mut parsed = match catch_unwind(AssertUnwindSafe(parse)) {
            Ok(Ok(parsed)) => parsed,
            Ok(Err(errors)) => {
                let first = errors.errors.first();
                let said = first.map_or_else(String::new, |e| format!("{} at column {}", e.msg.trim(), e.pos.1 + 1));
                return Err(CelError::Syntax(said));
            }
            Err(_) => return Err(CelError::Syntax("the parser gave up on it".to_owned())),
        };
        check_functions(&parsed.expr)?;
        if optional {
            optional::write_out(&mut parsed)?;
        }
        let shape = Shape::of(&parsed.expr);
        if shape.loops > MAX_LOOPS {
            return Err(CelError::TooLarge(format!("{} macros inside each other, at most {MAX_LOOPS}", shape.loops)));
        }
        Ok(Self { text: text.into(), parsed: Arc::new(parsed), shape })
    }

    /// The expression as written.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Refuses an expression that names other variables than these.
    pub fn uses_only(&self, variables: &[&str]) -> Result<(), CelError> {
        let references = self.parsed.references();
        // Names that macros bind are no variables of the expression; the library lists them all the same.
        let unknown = references.variables().into_iter().filter(|name| {
            !name.starts_with('@') && !variables.contains(name) && *name != "optional" && !self.binds(name)
        });
        match unknown.min() {
            Some(name) => Err(CelError::NoVariable(name.to_owned(), variables.join(" and "))),
            None => Ok(()),
        }
    }

    fn binds(&self, name: &str) -> bool {
        let mut found = false;
        walk(&self.parsed.expr, &mut |expr| {
            if let Expr::Comprehension(c) = expr {
                found |= c.iter_var == name || c.iter_var2.as_deref() == Some(name) || c.accu_var == name;
            }
        });
        found
    }

    /// Asks it about these variables.
    pub fn ask<'v>(&self, variables: impl IntoIterator<Item = (&'v str, &'v Value)>) -> Result<bool, CelError> {
        let mut context = context();
        let mut longest = self.shape.longest;
        for (name, value) in variables {
            context.add_variable_from_value(name, convert(value, &mut longest));
        }
        let cost = (0..self.shape.loops).fold(1u64, |cost, _| cost.saturating_mul(longest.max(1)));
        if cost > MAX_COST {
            return Err(CelError::TooCostly);
        }
        match catch_unwind(AssertUnwindSafe(|| context.resolve(&self.parsed))) {
            Ok(Ok(CelValue::Bool(answer))) => Ok(answer),
            Ok(Ok(other)) => Err(CelError::NoBoolean(format!("{}", other.type_of()))),
            Ok(Err(error)) => Err(CelError::Failed(explain(&error))),
            Err(_) => Err(CelError::Failed("the evaluation gave up".to_owned())),
        }
    }

    /// Asks it about one object, whose top-level fields are its variables.
    pub fn ask_of(&self, object: &Value) -> Result<bool, CelError> {
        let fields = object.as_object().into_iter().flatten();
        self.ask(fields.map(|(name, value)| (name.as_str(), value)))
    }
}

/// An unknown function would be found only when it is reached, which may be never.
fn check_functions(expr: &Expr) -> Result<(), CelError> {
    let mut calls: BTreeSet<(Option<String>, String)> = BTreeSet::new();
    walk(expr, &mut |expr| {
        if let Expr::Call(call) = expr
            && call.func_name.starts_with(|c: char| c.is_ascii_alphabetic())
        {
            let space = match call.target.as_ref().map(|target| &target.expr) {
                Some(Expr::Ident(name)) => Some(name.clone()),
                _ => None,
            };
            calls.insert((space, call.func_name.clone()));
        }
    });
    let context = context();
    let known = |text: &str| {
        let Ok(call) = Parser::default().parse(text) else { return true };
        let answer = catch_unwind(AssertUnwindSafe(|| context.resolve(&call)));
        !matches!(answer, Ok(Err(ExecutionError::UndeclaredReference(_))))
    };
    for (space, name) in calls {
        // `math.greatest(..)` is a function of that name; `status.size()` is one on a value.
        let known = known(&format!("{name}()")) || space.is_some_and(|space| known(&format!("{space}.{name}()")));
        if !known {
            return Err(CelError::NoFunction(name));
        }
    }
    Ok(())
}

fn context() -> Context<'static> {
    Context::default().with_all()
}

/// Errors carry the values they failed on, which may be long, and secret.
fn explain(error: &ExecutionError) -> String {
    match error {
        ExecutionError::NoSuchKey(name) => format!("there is no field {name} (yet)"),
        ExecutionError::UndeclaredReference(name) => format!("there is no field {name} (yet)"),
        ExecutionError::NoSuchOverload | ExecutionError::UnsupportedBinaryOperator(..) => {
            "an operator does not fit the types of its values".to_owned()
        }
        ExecutionError::ValuesNotComparable(..) => "two values cannot be compared".to_owned(),
        ExecutionError::IndexOutOfBounds(_) => "a list has fewer items than it asks for".to_owned(),
        ExecutionError::DivisionByZero(_) | ExecutionError::RemainderByZero(_) => "it divides by zero".to_owned(),
        ExecutionError::FunctionError { function, .. } => format!("{function}() failed on its arguments"),
        ExecutionError::NotSupportedAsMethod { method, .. } => format!("{method}() does not fit its value"),
        _ => "it cannot be evaluated on this object".to_owned(),
    }
}

/// How deep brackets and right-recursive operators nest, at most. Text in quotes is skipped as far as that is simple; what
/// is counted too much is refused, never the other way round.
fn nesting(text: &str) -> usize {
    let (mut depth, mut deepest, mut unary, mut ternary) = (0usize, 0usize, 0usize, 0usize);
    for c in text.chars() {
        match c {
            '(' | '[' | '{' => depth += 1,
            ')' | ']' | '}' => depth = depth.saturating_sub(1),
            '?' => ternary += 1,
            _ => {}
        }
        unary = if matches!(c, '!' | '-') {
            unary + 1
        } else if c.is_whitespace() {
            unary
        } else {
            0
        };
        deepest = deepest.max(depth + unary + ternary);
    }
    deepest
}

/// What an expression may cost: macros inside each other, and the longest list it writes down itself.
#[derive(Clone, Copy, Debug, Default)]
struct Shape {
    loops: u32,
    longest: u64,
}

impl Shape {
    fn of(expr: &Expr) -> Self {
        let mut longest = 1;
        walk(expr, &mut |expr| {
            longest = longest.max(match expr {
                Expr::List(list) => list.elements.len() as u64,
                Expr::Map(map) => map.entries.len() as u64,
                _ => 1,
            });
        });
        Self { loops: loops(expr), longest }
    }
}

/// Calls `f` with an expression and everything in it.
fn walk(expr: &Expr, f: &mut dyn FnMut(&Expr)) {
    f(expr);
    for below in children(expr) {
        walk(below, f);
    }
}

fn loops(expr: &Expr) -> u32 {
    let below = children(expr).into_iter().map(loops).max().unwrap_or(0);
    below + u32::from(matches!(expr, Expr::Comprehension(_)))
}

fn children(expr: &Expr) -> Vec<&Expr> {
    match expr {
        Expr::Call(call) => call.target.iter().map(|t| &t.expr).chain(call.args.iter().map(|a| &a.expr)).collect(),
        Expr::Comprehension(c) => {
            vec![&c.iter_range.expr, &c.accu_init.expr, &c.loop_cond.expr, &c.loop_step.expr, &c.result.expr]
        }
        Expr::List(list) => list.elements.iter().map(|e| &e.expr).collect(),
        Expr::Map(map) => map.entries.iter().flat_map(|e| entry(&e.expr)).collect(),
        Expr::Struct(of) => of.entries.iter().flat_map(|e| entry(&e.expr)).collect(),
        Expr::Select(select) => vec![&select.operand.expr],
        _ => Vec::new(),
    }
}

fn entry(entry: &EntryExpr) -> Vec<&Expr> {
    match entry {
        EntryExpr::StructField(field) => vec![&field.value.expr],
        EntryExpr::MapEntry(entry) => vec![&entry.key.expr, &entry.value.expr],
    }
}

/// JSON as CEL sees Kubernetes objects: whole numbers are `int`.
fn convert(value: &Value, longest: &mut u64) -> CelValue {
    match value {
        Value::Null => CelValue::Null,
        Value::Bool(b) => CelValue::Bool(*b),
        Value::Number(n) => match (n.as_i64(), n.as_u64()) {
            (Some(i), _) => CelValue::Int(i),
            (None, Some(u)) => CelValue::UInt(u),
            (None, None) => CelValue::Float(n.as_f64().unwrap_or(f64::NAN)),
        },
        Value::String(text) => CelValue::String(Arc::new(text.clone())),
        Value::Array(items) => {
            *longest = (*longest).max(items.len() as u64);
            CelValue::List(Arc::new(items.iter().map(|item| convert(item, longest)).collect()))
        }
        Value::Object(map) => {
            *longest = (*longest).max(map.len() as u64);
            let map: HashMap<Key, CelValue> = map
                .iter()
                .map(|(name, value)| (Key::String(Arc::new(name.clone())), convert(value, longest)))
                .collect();
            CelValue::Map(Map { map: Arc::new(map) })
        }
    }
}
