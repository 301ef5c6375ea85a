//! Carries out what a plan says, for the tests.

use serde_json::Value;

use super::model::ChangedField;
use super::path::{FieldPath, Step, scalar_text};

/// Makes one change in an object, as its path says: knows nothing of how the change was found.
pub(crate) fn apply(value: &mut Value, change: &ChangedField) {
    let (last, way) = change.path.0.split_last().expect("a change has a path");
    let mut at = value;
    for step in way {
        at = match step {
            Step::Field(name) => at.get_mut(name).expect("the way is there"),
            other => item(at, other).expect("the item is there"),
        };
    }
    if change.reordered {
        let Step::Field(name) = last else { panic!("a list is a field") };
        let items = at[name].as_array_mut().expect("a list");
        let order = change.new.as_ref().unwrap().as_array().unwrap();
        let place = |item: &Value| {
            order.iter().position(|name| {
                let name: FieldPath = name.as_str().unwrap().parse().unwrap();
                is(item, &name.0[0])
            })
        };
        items.sort_by_key(place);
        return;
    }
    match (last, &change.new) {
        (Step::Field(name), Some(new)) => {
            at[name] = new.clone();
        }
        (Step::Field(name), None) => {
            at.as_object_mut().expect("a map").remove(name);
        }
        (step, new) => {
            if let Some(found) = item(at, step) {
                match new {
                    Some(new) => *found = new.clone(),
                    None => at.as_array_mut().unwrap().retain(|v| !is(v, step)),
                }
            } else {
                at.as_array_mut().expect("a list").push(new.clone().expect("only what is there is removed"));
            }
        }
    }
}

fn item<'a>(list: &'a mut Value, step: &Step) -> Option<&'a mut Value> {
    list.as_array_mut()?.iter_mut().find(|v| is(v, step))
}

fn is(item: &Value, step: &Step) -> bool {
    match step {
        Step::Value(text) => scalar_text(item) == *text,
        Step::Item(keys) => keys.iter().all(|(key, text)| {
            item.get(key).map_or_else(|| key == "protocol" && text == "\"TCP\"", |v| scalar_text(v) == *text)
        }),
        Step::Field(_) => false,
    }
}
