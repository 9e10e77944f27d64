//! The schemas of the description, made of the wire's own types, with their comments.
//!
//! What is said and what is asked for are two contracts: a field that may be left out when it is read is always there
//! when it is written. What is said is shared by name; what is asked for stands by itself.

use schemars::generate::SchemaSettings;
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde_json::{Map, Value, json};

use super::parameters;

/// Names of times besides those that end in `_at`.
const TIMES: [&str; 5] = ["at", "since", "until", "oldest", "newest"];

/// The schemas that are referred to, so far.
pub(super) struct Schemas {
    said: SchemaGenerator,
    asked: Map<String, Value>,
}

impl Default for Schemas {
    fn default() -> Self {
        let settings = SchemaSettings::draft2020_12().with(|settings| {
            settings.definitions_path = "/components/schemas".into();
            settings.meta_schema = None;
        });
        Self { said: settings.for_serialize().into_generator(), asked: Map::new() }
    }
}

impl Schemas {
    /// What is said as a `T`.
    pub(super) fn said<T: JsonSchema>(&mut self) -> Value {
        self.said.subschema_for::<T>().to_value()
    }

    /// What is asked for as a `T`.
    pub(super) fn asked<T: JsonSchema>(&mut self) -> Value {
        let settings = SchemaSettings::draft2020_12().with(|settings| {
            settings.inline_subschemas = true;
            settings.meta_schema = None;
        });
        let name = T::schema_name().into_owned();
        let mut schema = settings.for_deserialize().into_generator().into_root_schema_for::<T>();
        schema.remove("title");
        let mut schema = schema.to_value();
        if let Some(Value::Object(fields)) = schema.pointer_mut("/properties/filter/properties") {
            sharpen(fields);
        }
        self.asked.insert(name.clone(), schema);
        Schema::new_ref(format!("#/components/schemas/{name}")).to_value()
    }

    /// All of them, by name.
    pub(super) fn components(mut self) -> Map<String, Value> {
        self.said::<crate::admin::wire::Problem>();
        let mut all = self.said.take_definitions(true);
        all.values_mut().for_each(mark_times);
        all.extend(self.asked);
        all
    }
}

/// The fields of a selection have the forms that the parameters of lists have, and may be `null` where they are one.
fn sharpen(fields: &mut Map<String, Value>) {
    for parameter in parameters::selection() {
        let name = parameter.get("name").and_then(Value::as_str).unwrap_or_default();
        let Some(Value::Object(mut form)) = parameter.get("schema").cloned() else { continue };
        let Some(Value::Object(field)) = fields.get_mut(name) else { continue };
        // In a body nothing can be said in so many words.
        form.remove("minItems");
        let mut forms = vec![Value::Object(form.clone())];
        // These may be given as one text, too.
        if ["key", "id"].contains(&name) {
            forms.extend(form.get("items").cloned());
        }
        if types(field).contains(&"null") {
            forms.push(json!({ "type": "null" }));
        }
        let description = field.remove("description");
        *field = if forms.len() == 1 { form } else { Map::from_iter([("anyOf".to_owned(), forms.into())]) };
        field.extend(description.map(|text| ("description".to_owned(), text)));
    }
}

/// By their names: times are RFC 3339 wherever they are said.
fn mark_times(schema: &mut Value) {
    match schema {
        Value::Object(fields) => {
            if let Some(Value::Object(properties)) = fields.get_mut("properties") {
                for (name, property) in properties {
                    let is_time = name.ends_with("_at") || TIMES.contains(&name.as_str());
                    if let Value::Object(property) = property
                        && is_time
                        && types(property).contains(&"string")
                    {
                        property.insert("format".to_owned(), "date-time".into());
                    }
                }
            }
            fields.values_mut().for_each(mark_times);
        }
        Value::Array(items) => items.iter_mut().for_each(mark_times),
        _ => {}
    }
}

/// What a schema says that it may be.
fn types(schema: &Map<String, Value>) -> Vec<&str> {
    match schema.get("type") {
        Some(Value::String(one)) => vec![one],
        Some(Value::Array(several)) => several.iter().filter_map(Value::as_str).collect(),
        _ => Vec::new(),
    }
}
