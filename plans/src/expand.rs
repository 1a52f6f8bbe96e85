//! The values of a task's instances: matrix combinations as GitHub Actions makes them, times the items of its lists.

use serde_json::Value;

use crate::instance::{Binding, BoundValue, Origin, batch_label, label};
use crate::lower::INSTANCES_MAX;
use crate::plan::{Fan, Matrix, Task};

/// The values of one instance to be, and what its brackets say.
pub(crate) struct Combination {
    pub bindings: Vec<Binding>,
    /// `key=value,key=value`; empty for a task that does not fan out.
    pub key: String,
}

/// More instances than [`INSTANCES_MAX`].
pub(crate) struct TooMany;

/// All combinations of a task, the last axis running fastest. `fed` are the items of the fan-out that waits for data, if the
/// task has one.
pub(crate) fn combinations(task: &Task, fed: Option<&[BoundValue]>) -> Result<Vec<Combination>, TooMany> {
    let mut all = match &task.matrix {
        Some(matrix) => matrix_combinations(matrix)?,
        None => vec![Combination { bindings: Vec::new(), key: String::new() }],
    };
    for foreach in &task.foreach {
        let listed: Vec<BoundValue>;
        let (items, origin) = match &foreach.source {
            Fan::List(items) => {
                listed = items.iter().cloned().map(BoundValue::Json).collect();
                (listed.as_slice(), Origin::List)
            }
            Fan::Glob(_) | Fan::Lines(_) => (fed.unwrap_or_default(), Origin::Names),
            Fan::Output { .. } | Fan::Grown { .. } => (fed.unwrap_or_default(), Origin::Worker),
        };
        let items = batches(items, task.foreach_batch as usize);
        if all.len().saturating_mul(items.len()) > INSTANCES_MAX {
            return Err(TooMany);
        }
        let pairs = || all.iter().flat_map(|outer| items.iter().map(move |item| (outer, item)));
        // All keys, then all bindings: keys go soon, and would leave a hole beside each of what stays.
        let keys: Vec<String> = pairs().map(|(outer, (_, label))| joined(&outer.key, &foreach.name, label)).collect();
        let bindings = |(outer, (value, _)): (&Combination, &(BoundValue, String))| {
            let own = Binding { name: foreach.name.clone(), value: value.clone(), origin };
            outer.bindings.iter().cloned().chain([own]).collect()
        };
        all = pairs().map(bindings).zip(keys).map(|(bindings, key)| Combination { bindings, key }).collect();
    }
    Ok(all)
}

fn joined(outer: &str, name: &str, label: &str) -> String {
    let mut key = String::with_capacity(outer.len() + name.len() + label.len() + 2);
    key.push_str(outer);
    if !outer.is_empty() {
        key.push(',');
    }
    key.push_str(name);
    key.push('=');
    key.push_str(label);
    key
}

/// Items with their labels; with a batch of more than one, lists of items.
fn batches(items: &[BoundValue], batch: usize) -> Vec<(BoundValue, String)> {
    if batch <= 1 {
        return items.iter().enumerate().map(|(index, item)| (item.clone(), label(&item.json(), index))).collect();
    }
    let chunks = items.chunks(batch).enumerate().map(|(chunk, items)| {
        let first = label(&items[0].json(), chunk * batch);
        let last = label(&items[items.len() - 1].json(), chunk * batch + items.len() - 1);
        let all: Value = items.iter().map(|item| item.json().into_owned()).collect();
        (BoundValue::from(all), batch_label(first, last))
    });
    chunks.collect()
}

/// Source: docs.github.com, "Running variations of jobs in a workflow": exclusions first; then each inclusion extends every
/// original combination of whose axes it contradicts none, and becomes a combination of its own where there is none.
pub(crate) fn matrix_combinations(matrix: &Matrix) -> Result<Vec<Combination>, TooMany> {
    let mut all = originals(matrix)?;
    let originals = all.len();
    for include in &matrix.include {
        let mut extended = false;
        for combination in &mut all[..originals] {
            let contradicts = include.iter().any(|(name, value)| {
                combination
                    .bindings
                    .iter()
                    .any(|b| b.origin == Origin::Axis && b.name == *name && *b.value.json() != **value)
            });
            if contradicts {
                continue;
            }
            extended = true;
            for (name, value) in include {
                match combination.bindings.iter_mut().find(|binding| binding.name == *name) {
                    Some(binding) if binding.origin == Origin::Axis => {}
                    Some(binding) => binding.value = BoundValue::Json(value.clone()),
                    None => combination.bindings.push(Binding {
                        name: name.clone(),
                        value: BoundValue::Json(value.clone()),
                        origin: Origin::Added,
                    }),
                }
            }
        }
        if !extended {
            if all.len() == INSTANCES_MAX {
                return Err(TooMany);
            }
            let mut own = Combination { bindings: Vec::new(), key: String::new() };
            for (index, (name, value)) in include.iter().enumerate() {
                own.key = joined(&own.key, name, &label(value, index));
                own.bindings.push(Binding {
                    name: name.clone(),
                    value: BoundValue::Json(value.clone()),
                    origin: Origin::Axis,
                });
            }
            all.push(own);
        }
    }
    Ok(all)
}

/// The product of the axes without what is excluded.
fn originals(matrix: &Matrix) -> Result<Vec<Combination>, TooMany> {
    if matrix.axes.is_empty() {
        return Ok(Vec::new());
    }
    let product = matrix.axes.iter().try_fold(1_usize, |product, (_, values)| product.checked_mul(values.len()));
    let product = product.filter(|product| *product <= INSTANCES_MAX).ok_or(TooMany)?;
    let labels: Vec<Vec<String>> = matrix
        .axes
        .iter()
        .map(|(_, values)| values.iter().enumerate().map(|(index, value)| label(value, index)).collect())
        .collect();
    // An exclusion as one place per axis: values of an axis differ from each other, so comparing places is enough.
    let excluded: Vec<Vec<(usize, usize)>> = matrix.exclude.iter().filter_map(|pairs| places(matrix, pairs)).collect();
    let mut all = Vec::with_capacity(product);
    let mut at = vec![0; matrix.axes.len()];
    for _ in 0..product {
        if !excluded.iter().any(|pairs| pairs.iter().all(|(axis, value)| at[*axis] == *value)) {
            let mut combination = Combination { bindings: Vec::with_capacity(at.len()), key: String::new() };
            for (axis, value) in at.iter().enumerate() {
                let (name, values) = &matrix.axes[axis];
                combination.key = joined(&combination.key, name, &labels[axis][*value]);
                let value = BoundValue::Json(values[*value].clone());
                combination.bindings.push(Binding { name: name.clone(), value, origin: Origin::Axis });
            }
            all.push(combination);
        }
        for (axis, place) in at.iter_mut().enumerate().rev() {
            *place += 1;
            if *place < matrix.axes[axis].1.len() {
                break;
            }
            *place = 0;
        }
    }
    Ok(all)
}

/// Axis and place of each pair; `None` when one of them does not exist.
fn places(matrix: &Matrix, pairs: &[(String, Value)]) -> Option<Vec<(usize, usize)>> {
    let place = |(name, value): &(String, Value)| {
        let axis = matrix.axes.iter().position(|(axis, _)| **axis == *name)?;
        Some((axis, matrix.axes[axis].1.iter().position(|known| **known == *value)?))
    };
    pairs.iter().map(place).collect()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use serde_json::json;

    fn axis(name: &str, values: &[Value]) -> (Arc<str>, Vec<Arc<Value>>) {
        (name.into(), values.iter().cloned().map(Arc::new).collect())
    }

    fn include(pairs: &[(&str, Value)]) -> Vec<(Arc<str>, Arc<Value>)> {
        pairs.iter().map(|(name, value)| ((*name).into(), Arc::new(value.clone()))).collect()
    }

    fn shown(matrix: &Matrix) -> Vec<String> {
        let all = matrix_combinations(matrix).unwrap_or_default();
        let one = |c: &Combination| {
            let pairs: Vec<String> =
                c.bindings.iter().map(|b| format!("{}:{}", b.name, b.value.json().as_str().unwrap_or("?"))).collect();
            pairs.join(" ")
        };
        all.iter().map(one).collect()
    }

    /// The example of GitHub's own documentation.
    #[test]
    fn inclusions_extend_and_add_as_in_github_actions() {
        let matrix = Matrix {
            axes: vec![axis("fruit", &[json!("apple"), json!("pear")]), axis("animal", &[json!("cat"), json!("dog")])],
            include: vec![
                include(&[("color", json!("green"))]),
                include(&[("color", json!("pink")), ("animal", json!("cat"))]),
                include(&[("fruit", json!("apple")), ("shape", json!("circle"))]),
                include(&[("fruit", json!("banana"))]),
                include(&[("fruit", json!("banana")), ("animal", json!("cat"))]),
            ],
            ..Matrix::default()
        };
        assert_eq!(
            shown(&matrix),
            [
                "fruit:apple animal:cat color:pink shape:circle",
                "fruit:apple animal:dog color:green shape:circle",
                "fruit:pear animal:cat color:pink",
                "fruit:pear animal:dog color:green",
                "fruit:banana",
                "fruit:banana animal:cat",
            ]
        );
    }

    #[test]
    fn exclusions_match_partly() {
        let matrix = Matrix {
            axes: vec![axis("os", &[json!("a"), json!("b")]), axis("v", &[json!("1"), json!("2")])],
            exclude: vec![
                vec![("os".to_owned(), json!("a"))],
                vec![("os".to_owned(), json!("b")), ("v".to_owned(), json!("2"))],
            ],
            ..Matrix::default()
        };
        assert_eq!(shown(&matrix), ["os:b v:1"]);
    }

    #[test]
    fn inclusions_alone_are_combinations() {
        let matrix = Matrix {
            include: vec![include(&[("os", json!("a"))]), include(&[("os", json!("b"))])],
            ..Matrix::default()
        };
        assert_eq!(shown(&matrix), ["os:a", "os:b"]);
    }

    #[test]
    fn a_product_that_is_too_large_is_refused_before_it_is_made() {
        let values: Vec<Value> = (0..1000).map(Value::from).collect();
        let axes = ["a", "b", "c", "d", "e", "f", "g"].iter().map(|name| axis(name, &values)).collect();
        assert!(matrix_combinations(&Matrix { axes, ..Matrix::default() }).is_err());
    }
}
