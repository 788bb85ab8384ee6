//! An open secret is compared in constant time or not at all.

fn needs<T: PartialEq>() {}

fn main() {
    needs::<twinkeep_envelope::OpenKey>();
    needs::<twinkeep_envelope::SecretBytes>();
}
