//! `a.?b`: the library evaluates it wrongly where the field is not there, so it is written out before: `has(a.b) ?
//! optional.of(a.b) : optional.none()`. A field selected from an optional value is optional, too.

use kube_cel::cel::common::ast::{EntryExpr, Expr, IdedExpr, LiteralValue, operators};
use kube_cel::cel::parser::Parser;

use crate::CelError;

/// Longest chain of optional fields: each writes its operand out three times.
const MOST: u32 = 5;

const OPERAND: &str = "operand_of_optional";
const FIELD: &str = "field_of_optional";

/// Writes out every optional field in an expression.
pub(crate) fn write_out(expr: &mut IdedExpr) -> Result<(), CelError> {
    rewrite(expr).map(drop)
}

/// How many optional fields in a row the value of the expression comes from; 0: it is not optional.
fn rewrite(expr: &mut IdedExpr) -> Result<u32, CelError> {
    let (operand, field, asked) = match &mut expr.expr {
        Expr::Call(call) if call.func_name == operators::OPT_SELECT => {
            let field = match call.args.get(1).map(|arg| &arg.expr) {
                Some(Expr::Literal(LiteralValue::String(text))) => text.inner().to_owned(),
                _ => return Ok(0),
            };
            match call.args.first_mut() {
                Some(operand) => (operand, field, true),
                None => return Ok(0),
            }
        }
        Expr::Select(select) if !select.test => (&mut *select.operand, select.field.clone(), false),
        Expr::Call(call) => {
            let mut optional = 0;
            if let Some(target) = &mut call.target {
                optional = rewrite(target)?;
            }
            for arg in &mut call.args {
                rewrite(arg)?;
            }
            return Ok(if call.func_name == "or" { optional } else { 0 });
        }
        Expr::Select(select) => {
            rewrite(&mut select.operand)?;
            return Ok(0);
        }
        Expr::Comprehension(c) => {
            for part in [&mut c.iter_range, &mut c.accu_init, &mut c.loop_cond, &mut c.loop_step, &mut c.result] {
                rewrite(part)?;
            }
            return Ok(0);
        }
        Expr::List(list) => {
            for element in &mut list.elements {
                rewrite(element)?;
            }
            return Ok(0);
        }
        Expr::Map(map) => {
            for entry in &mut map.entries {
                rewrite_entry(&mut entry.expr)?;
            }
            return Ok(0);
        }
        Expr::Struct(of) => {
            for entry in &mut of.entries {
                rewrite_entry(&mut entry.expr)?;
            }
            return Ok(0);
        }
        Expr::Unspecified | Expr::Ident(_) | Expr::Literal(_) => return Ok(0),
    };
    let chain = rewrite(operand)?;
    if !asked && chain == 0 {
        return Ok(0);
    }
    if chain >= MOST {
        return Err(CelError::TooLarge(format!("more than {MOST} optional fields in a row")));
    }
    let value = if chain == 0 { OPERAND.to_owned() } else { format!("{OPERAND}.value()") };
    let mut text = format!("has({value}.{FIELD}) ? optional.of({value}.{FIELD}) : optional.none()");
    if chain > 0 {
        text = format!("{OPERAND}.hasValue() ? ({text}) : optional.none()");
    }
    let mut written = Parser::default().parse(&text).map_err(|e| CelError::Syntax(e.to_string()))?;
    fill(&mut written, operand, &field);
    *expr = written;
    Ok(chain + 1)
}

fn rewrite_entry(entry: &mut EntryExpr) -> Result<(), CelError> {
    match entry {
        EntryExpr::StructField(field) => rewrite(&mut field.value).map(drop),
        EntryExpr::MapEntry(entry) => {
            rewrite(&mut entry.key)?;
            rewrite(&mut entry.value).map(drop)
        }
    }
}

/// Puts operand and field in the place of their names.
fn fill(expr: &mut IdedExpr, operand: &IdedExpr, field: &str) {
    match &mut expr.expr {
        Expr::Ident(name) if name == OPERAND => *expr = operand.clone(),
        Expr::Select(select) => {
            fill(&mut select.operand, operand, field);
            if select.field == FIELD {
                field.clone_into(&mut select.field);
            }
        }
        Expr::Call(call) => {
            for part in call.target.iter_mut().map(|target| &mut **target).chain(&mut call.args) {
                fill(part, operand, field);
            }
        }
        _ => {}
    }
}
