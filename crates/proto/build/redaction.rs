//! `Debug` for messages with secret fields: all other fields as usual, of a secret one its length.

use std::fmt::Write as _;

use protox::prost_reflect::{
    Cardinality, DescriptorPool, FieldDescriptor, Kind, MessageDescriptor,
};

/// Returns the messages of a package that have a field marked `secret`.
pub(crate) fn messages(
    pool: &DescriptorPool,
    package: &str,
) -> Result<Vec<MessageDescriptor>, String> {
    let option = crate::option(pool, "secret")?;
    let is_secret = |field: &FieldDescriptor| {
        field.options().get_extension(&option).as_bool().unwrap_or_default()
    };
    let of_package = pool.all_messages().filter(|message| message.package_name() == package);
    Ok(of_package.filter(|message| message.fields().any(|field| is_secret(&field))).collect())
}

/// Writes the impls.
pub(crate) fn source(messages: &[MessageDescriptor]) -> Result<String, String> {
    let mut out = String::new();
    for message in messages {
        let name = message.name();
        let mut shown = String::new();
        for field in message.fields() {
            let value = value(&field)?;
            let name = field.name();
            write!(shown, "\n            .field(\"{name}\", &{value})").expect("a string grows");
        }
        write!(
            out,
            "impl ::core::fmt::Debug for {name} {{
    fn fmt(&self, f: &mut ::core::fmt::Formatter<'_>) -> ::core::fmt::Result {{
        f.debug_struct(\"{name}\"){shown}
            .finish()
    }}
}}
"
        )
        .expect("a string grows");
    }
    Ok(out)
}

fn value(field: &FieldDescriptor) -> Result<String, String> {
    let name = field.name();
    let secret = crate::option(field.parent_pool(), "secret")?;
    let is_secret = field.options().get_extension(&secret).as_bool().unwrap_or_default();
    if field.parent_message().parent_message().is_some() || in_oneof(field) {
        return Err(format!(
            "{}: a message with secrets may have no oneof and not lie inside another: the redacting \
             Debug does not know how to print it",
            field.full_name()
        ));
    }
    if is_secret && field.cardinality() == Cardinality::Repeated {
        return Err(format!("{}: a secret field may not be repeated", field.full_name()));
    }
    Ok(match field.kind() {
        Kind::Bytes | Kind::String if is_secret => {
            format!("format_args!(\"<{{}} secret bytes>\", self.{name}.len())")
        }
        _ if is_secret => "format_args!(\"<secret>\")".to_owned(),
        Kind::Enum(_) if field.cardinality() != Cardinality::Repeated => format!("self.{name}()"),
        _ => format!("self.{name}"),
    })
}

fn in_oneof(field: &FieldDescriptor) -> bool {
    field.containing_oneof().is_some_and(|oneof| !oneof.is_synthetic())
}
