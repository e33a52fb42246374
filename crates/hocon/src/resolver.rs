//! Resolves substitutions, concatenations and merges: turns a tree into values.
//!
//! A key's values are folded in order. `${x}` inside the values of `x` itself means the earlier
//! value of `x`; elsewhere it means the final value. The size of a document is limited by a budget
//! that every value, and every byte that a substitution copies, is charged to.

use super::{
    HoconError, Kind, Object, Origin, Source, Value, limits,
    tree::{Fields, Node, Piece, Place, one_line},
};

pub(crate) fn resolve(tree: &Fields, source: &dyn Source) -> Result<Object, HoconError> {
    let mut resolver =
        Resolver { root: tree, source, busy: Vec::new(), budget: limits::RESOLVED, depth: 0 };
    resolver.object(tree, &mut Vec::new())
}

struct Resolver<'t> {
    root: &'t Fields,
    source: &'t dyn Source,
    /// Keys whose values are being folded, innermost last, with their values so far.
    busy: Vec<(Vec<String>, Option<Value>)>,
    budget: usize,
    depth: usize,
}

impl<'t> Resolver<'t> {
    fn charge(&mut self, weight: usize, at: &Place) -> Result<(), HoconError> {
        self.budget = self
            .budget
            .checked_sub(weight)
            .ok_or_else(|| at.limit("substitutions make the configuration larger than 1 MiB"))?;
        Ok(())
    }

    fn object(&mut self, fields: &'t Fields, path: &mut Vec<String>) -> Result<Object, HoconError> {
        let mut object = Object::new();
        for (name, values) in &fields.0 {
            path.push(name.clone());
            let value = self.field(values, path)?;
            path.pop();
            if let Some(value) = value {
                object.insert(name.clone(), value);
            }
        }
        Ok(object)
    }

    /// Folds a key's values.
    fn field(&mut self, values: &'t [Node], path: &[String]) -> Result<Option<Value>, HoconError> {
        self.busy.push((path.to_vec(), None));
        let folded = values.iter().try_for_each(|node| {
            let value = self.node(node, path)?;
            let Some((_, so_far)) = self.busy.last_mut() else { return Ok(()) };
            *so_far = match (so_far.take(), value) {
                (before, None) => before,
                (Some(before), Some(value)) => Some(merge(before, value)),
                (None, value) => value,
            };
            Ok(())
        });
        let done = self.busy.pop();
        folded?;
        Ok(done.and_then(|(_, value)| value))
    }

    /// Resolves one value; `None` for an optional substitution that refers to nothing.
    fn node(&mut self, node: &'t Node, path: &[String]) -> Result<Option<Value>, HoconError> {
        self.charge(1, &node.at)?;
        let origin = node.at.origin();
        let kind = match &node.piece {
            Piece::Null => Kind::Null,
            Piece::Text(text) | Piece::Space(text) => {
                self.charge(text.len(), &node.at)?;
                Kind::Text(text.clone())
            }
            Piece::Array(elements) => {
                let mut array = Vec::new();
                for element in elements {
                    array.extend(self.node(element, path)?);
                }
                Kind::Array(array)
            }
            Piece::Object(fields) => Kind::Object(self.object(fields, &mut path.to_vec())?),
            Piece::Substitution { path: name, optional, base } => {
                return self.substitution(name, *optional, base, path, &node.at);
            }
            Piece::Concat(parts) => return self.concat(parts, path, &node.at),
            Piece::Append(inner) => {
                let Some(value) = self.node(inner, path)? else { return Ok(None) };
                let before = self.busy.last().and_then(|(_, value)| value.clone());
                let mut array = match before.map(|value| value.kind) {
                    None => Vec::new(),
                    Some(Kind::Array(array)) => array,
                    Some(other) => {
                        let what = format!("'+=' needs a list before it, not {}", other.name());
                        return Err(node.at.resolve(what));
                    }
                };
                self.charge(array.len(), &node.at)?;
                array.push(value);
                Kind::Array(array)
            }
        };
        Ok(Some(Value { kind, origin }))
    }

    fn substitution(
        &mut self,
        name: &[String],
        optional: bool,
        base: &[String],
        path: &[String],
        at: &Place,
    ) -> Result<Option<Value>, HoconError> {
        self.depth += 1;
        if self.depth > limits::SUBSTITUTION_DEPTH {
            return Err(at.limit("more than 64 substitutions lead from one to the next"));
        }
        let mut found = None;
        if !base.is_empty() {
            found = self.named(&[base, name].concat(), path)?;
        }
        if found.is_none() {
            found = self.named(name, path)?;
        }
        self.depth -= 1;
        if let Some(value) = found {
            self.charge(weight(&value), at)?;
            let kind = value.kind;
            // A value from an environment variable keeps that origin, however often it is
            // substituted.
            let origin = match value.origin {
                origin @ Origin::Environment { .. } => origin,
                _ => at.origin(),
            };
            return Ok(Some(Value { kind, origin }));
        }
        let joined = name.join(".");
        if let Some(text) = self.source.env(&joined) {
            self.charge(text.len(), at)?;
            let origin = Origin::Environment { name: joined, file: at.file.clone(), line: at.line };
            return Ok(Some(Value { kind: Kind::Text(text), origin }));
        }
        if optional {
            return Ok(None);
        }
        let name = one_line(&joined);
        Err(HoconError::Unresolved { file: at.file.clone(), line: at.line, name })
    }

    /// The value at `name`, for a substitution in the value of the key at `path`.
    fn named(&mut self, name: &[String], path: &[String]) -> Result<Option<Value>, HoconError> {
        // Inside the value of the very key that it refers to, or into: the key's earlier value.
        if let Some(rest) = name.strip_prefix(path)
            && let Some((busy, so_far)) = self.busy.last()
            && busy == path
            && let Some(before) = so_far.clone().and_then(|value| descend(value, rest))
        {
            return Ok(Some(before));
        }
        self.lookup(self.root, name, 0)
    }

    /// The value at `path`, whose first `done` parts led to `fields`.
    fn lookup(
        &mut self,
        fields: &'t Fields,
        path: &[String],
        done: usize,
    ) -> Result<Option<Value>, HoconError> {
        let (Some(name), Some(here), Some(rest)) =
            (path.get(done), path.get(..=done), path.get(done + 1..))
        else {
            return Ok(None);
        };
        let Some(values) = fields.0.get(name) else { return Ok(None) };
        let busy = self.busy.iter().rposition(|(busy, _)| busy == here);
        if let (true, Some(busy)) = (rest.is_empty(), busy) {
            return Ok(self.busy.get(busy).and_then(|(_, value)| value.clone()));
        }
        if let [Node { piece: Piece::Object(inner), .. }] = values.as_slice()
            && !rest.is_empty()
        {
            return self.lookup(inner, path, done + 1);
        }
        let Some(busy) = busy else {
            return Ok(self.field(values, here)?.and_then(|value| descend(value, rest)));
        };
        // Inside the values of `here`, which are not all folded yet: later objects win.
        for node in values.iter().rev() {
            if let Piece::Object(inner) = &node.piece
                && let Some(value) = self.lookup(inner, path, done + 1)?
            {
                return Ok(Some(value));
            }
        }
        let so_far = self.busy.get(busy).and_then(|(_, value)| value.clone());
        Ok(so_far.and_then(|value| descend(value, rest)))
    }

    fn concat(
        &mut self,
        parts: &'t [Node],
        path: &[String],
        at: &Place,
    ) -> Result<Option<Value>, HoconError> {
        let mut joined: Option<Value> = None;
        let mut space = String::new();
        for part in parts {
            if let Piece::Space(text) = &part.piece {
                space.push_str(text);
                continue;
            }
            let Some(value) = self.node(part, path)? else { continue };
            let before = std::mem::take(&mut space);
            joined = Some(match joined {
                None => value,
                Some(left) => join(left, &before, value, at)?,
            });
        }
        Ok(joined)
    }
}

/// Joins two values written side by side.
fn join(left: Value, space: &str, right: Value, at: &Place) -> Result<Value, HoconError> {
    let origin = match (left.origin, right.origin) {
        (origin @ Origin::Environment { .. }, _) | (_, origin @ Origin::Environment { .. }) => {
            origin
        }
        _ => at.origin(),
    };
    let kind = match (left.kind, right.kind) {
        (Kind::Array(mut left), Kind::Array(right)) => {
            left.extend(right);
            Kind::Array(left)
        }
        (Kind::Object(left), Kind::Object(right)) => Kind::Object(merge_objects(left, right)),
        (left, right) => {
            let (Some(first), Some(second)) = (text(&left), text(&right)) else {
                let (left, right) = (left.name(), right.name());
                return Err(at.resolve(format!("{left} and {right} cannot be joined")));
            };
            Kind::Text(format!("{first}{space}{second}"))
        }
    };
    Ok(Value { kind, origin })
}

fn text(kind: &Kind) -> Option<&str> {
    match kind {
        Kind::Text(text) => Some(text),
        Kind::Null => Some("null"),
        Kind::Array(_) | Kind::Object(_) => None,
    }
}

/// A later value over an earlier one: objects merge, anything else replaces.
fn merge(before: Value, after: Value) -> Value {
    match (before.kind, after.kind) {
        (Kind::Object(left), Kind::Object(right)) => {
            Value { kind: Kind::Object(merge_objects(left, right)), origin: after.origin }
        }
        (_, kind) => Value { kind, origin: after.origin },
    }
}

fn merge_objects(mut left: Object, right: Object) -> Object {
    for (name, value) in right {
        let value = match left.remove(&name) {
            Some(before) => merge(before, value),
            None => value,
        };
        left.insert(name, value);
    }
    left
}

fn descend(mut value: Value, path: &[String]) -> Option<Value> {
    for part in path {
        let Kind::Object(mut fields) = value.kind else { return None };
        value = fields.remove(part)?;
    }
    Some(value)
}

/// The budget that a copy of it costs.
fn weight(value: &Value) -> usize {
    1 + match &value.kind {
        Kind::Null => 0,
        Kind::Text(text) => text.len(),
        Kind::Array(elements) => elements.iter().map(weight).sum(),
        Kind::Object(fields) => fields.iter().map(|(name, value)| name.len() + weight(value)).sum(),
    }
}
