//! An open secret cannot stand in a record or a command.

fn needs<T: minicbor::Encode<()>>() {}

fn main() {
    needs::<twinkeep_envelope::OpenKey>();
    needs::<twinkeep_envelope::SecretBytes>();
}
