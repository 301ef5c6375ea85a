//! Kustomizations whose own definition has holes: which are built all the same, from what, and which are held.

use driftless_protocol::bundle::{LATE_FORMAT, LateText, TEXT_FORMAT};

use super::*;

/// A unit `all` with these variables that defines `web`, whose `postBuild` is this.
fn defined(post_build: &str, files: &[(&str, &str)]) -> RenderedCluster {
    defined_with(SECRET, &unit("web", post_build), files, &Target::new("c".parse().unwrap()))
}

fn defined_with(above: &str, web: &str, files: &[(&str, &str)], target: &Target) -> RenderedCluster {
    let all = unit("all", above);
    let mut tree = vec![("clusters/c/all.yaml", all.as_str()), ("apps/all/web.yaml", web)];
    tree.extend_from_slice(files);
    render_for(&tree, target)
}

fn text_of(unit: &RenderedUnit) -> &LateText {
    let inputs = unit.late.iter().flat_map(|late| &late.inputs);
    inputs.filter_map(|input| if let LateInput::Text(text) = input { Some(&**text) } else { None }).next().unwrap()
}

#[test]
fn values_of_substitute_may_have_holes_and_the_rest_of_the_unit_is_built() {
    let rendered = defined(
        "{substitute: {host: 'a.${domain}', stage: prod, zone: '${zone}'}}",
        &[
            ("apps/web/a.yaml", &config("default", "a", "k: '${host} ${stage}'")),
            ("apps/web/b.yaml", &config("default", "b", "k: '${stage}'")),
            ("apps/web/c.yaml", &config("default", "c", "k: v")),
        ],
    );
    assert_eq!(
        shown(web(&rendered)),
        "a: holes host\nb: plain\nc: plain\nvalues {\"stage\": \"prod\"}\ntext of all for host zone: Secret s, always false\n\
         always true\n"
    );
    assert!(rendered.whole);
    let text = text_of(web(&rendered));
    // As kustomize emits it, whole: what Flux substitutes in.
    assert!(text.text.contains("    substitute:\n      host: a.${domain}\n      stage: prod\n"), "{}", text.text);
    assert_eq!(text.open["host"], "apps/all/web.yaml:10");
    assert!(text.strict && text.account.is_none());
    let assembled = assemble(ClusterId::from_bytes([1; 16]), &rendered, &Intents::default()).unwrap();
    let format = |name: &str| {
        let body = assembled.bodies.iter().find(|body| body.id.name == name).unwrap();
        canonical::from_slice::<UnitBody>(&body.bytes).unwrap().format
    };
    assert_eq!((format("web"), format("all"), format("flux-system")), (TEXT_FORMAT, LATE_FORMAT, 1));
    let worse: Vec<_> = rendered.all_problems().filter(|p| p.severity() != Severity::Info).collect();
    assert!(worse.is_empty(), "{worse:?}");
    let said: Vec<String> = web(&rendered).problems.iter().map(ToString::to_string).collect();
    assert!(
        said.iter().any(|m| m.contains("${host}, ${zone} of spec.postBuild.substitute: unit flux-system/all")),
        "{said:?}"
    );
}

#[test]
fn which_holes_are_refused() {
    let with = |old: &str, new: &str| unit("web", "{substitute: {a: '${password}'}}").replace(old, new);
    for (what, web_file, fields) in [
        ("path", with("path: ./apps/web", "path: './apps/${where}'"), "(spec.path)"),
        (
            "target namespace",
            with("prune: true", "prune: true\n  targetNamespace: '${space}'"),
            "(spec.targetNamespace)",
        ),
        (
            "an image",
            with("prune: true", "prune: true\n  images: [{name: a, newTag: '${tag}'}]"),
            "(spec.images[0].newTag)",
        ),
        (
            "a patch",
            with("prune: true", "prune: true\n  patches: [{patch: 'a: ${x}', target: {kind: A}}]"),
            "(spec.patches[0].patch)",
        ),
        (
            "a reference",
            with("{substitute", "{substituteFrom: [{kind: ConfigMap, name: '${map}'}], substitute"),
            "(spec.postBuild.substituteFrom[0].name)",
        ),
        ("a key of the map", with("{a: '${password}'}", "{'${key}': b}"), "(spec.postBuild.substitute.${key})"),
        ("something deeper", with("'${password}'", "['${password}']"), "(spec.postBuild.substitute.a[0])"),
        ("a label", with("name: web,", "name: web, labels: {a: '${label}'},"), "(metadata.labels.a)"),
    ] {
        let files = [("apps/web/a.yaml", &*config("default", "a", "k: v"))];
        let rendered = defined_with(SECRET, &web_file, &files, &Target::new("c".parse().unwrap()));
        let why = web(&rendered).held().unwrap_or_else(|| panic!("{what} was built"));
        assert_eq!(why.code.as_str(), "HoleRefused", "{what}");
        assert!(why.message.contains(fields) && why.message.contains("its own definition"), "{what}: {why}");
        assert!(!rendered.whole, "{what}: what it may define is not known");
    }
}

#[test]
fn an_agent_that_cannot_read_it_gets_the_unit_held() {
    let files = [("apps/web/a.yaml", &*config("default", "a", "k: '${a}'"))];
    let web_file = unit("web", "{substitute: {a: '${password}'}}");
    let target = || Target::new("c".parse().unwrap());
    let facts = |body_format| Some(Facts { body_format, ..Facts::default() });
    for (what, target, held) in [
        ("the hub, nothing told", target().told(None), true),
        ("the hub, an agent that does not say", target().told(facts(0)), true),
        ("the hub, an older agent", target().told(facts(2)), true),
        ("the hub, this agent", target().told(facts(3)), false),
        ("a command without facts", target(), false),
        ("a command with a file that a person wrote", target().with_facts(facts(0)), false),
        ("a command with the facts of an older agent", target().with_facts(facts(2)), true),
    ] {
        let rendered = defined_with(SECRET, &web_file, &files, &target);
        let why = web(&rendered).held().map(|why| (why.code.as_str(), why.message.clone()));
        assert_eq!(why.as_ref().map(|why| why.0), held.then_some("AgentTooOld"), "{what}: {why:?}");
        assert!(why.is_none_or(|why| why.1.contains("a of its spec.postBuild.substitute")), "{what}");
        assert_eq!(rendered.whole, !held, "{what}");
    }
}

#[test]
fn grandchildren_carry_the_texts_of_all_above() {
    let rendered = render(&[
        (
            "clusters/c/all.yaml",
            &unit("all", SECRET).replace("prune: true", "prune: true\n  serviceAccountName: platform"),
        ),
        ("apps/all/team.yaml", &unit("team", "{substitute: {domain: '${zone}.example.org'}}")),
        (
            "apps/team/web.yaml",
            &unit(
                "web",
                "{substitute: {host: 'web.${domain}'}, substituteFrom: [{kind: ConfigMap, name: m, optional: true}]}",
            ),
        ),
        ("apps/web/a.yaml", &config("default", "a", "k: '${host}'")),
    ]);
    assert_eq!(
        shown(web(&rendered)),
        "a: holes host\nConfigMap m optional\ntext of team for host: text of all for domain: Secret s, always false, always true\n\
         always true\n"
    );
    let text = text_of(web(&rendered));
    assert_eq!((&*text.by.name, &text.account), ("team", &None));
    let LateInput::Text(above) = &text.inputs[0] else { panic!("{text:?}") };
    assert_eq!(above.account.as_ref().unwrap().name, "platform", "read with the rights of the unit that names it");
}

#[test]
fn only_what_the_text_gives_is_open() {
    // No object of the cluster has a say in other variables: one that is not set is known to be not set.
    let rendered = defined(
        "{substitute: {a: '${password}'}}",
        &[("apps/web/a.yaml", &config("default", "a", "k: '${a} ${other:=fine}'"))],
    );
    assert_eq!(shown(web(&rendered)), "a: holes a\ntext of all for a: Secret s, always false\nalways true\n");
    let rendered =
        defined("{substitute: {a: '${password}'}}", &[("apps/web/a.yaml", &config("default", "a", "k: '${other}'"))]);
    let why = web(&rendered).held().unwrap();
    assert!(why.message.contains("variable `other` is not set"), "{why}");
    // It wins over references, as everything inline does.
    let rendered = defined(
        "{substitute: {a: '${password}'}, substituteFrom: [{kind: ConfigMap, name: settings}]}",
        &[
            ("apps/web/a.yaml", &config("default", "a", "k: '${a}'")),
            ("apps/web/b.yaml", &config("default", "b", "k: '${b}'")),
            ("clusters/c/settings.yaml", &config("flux-system", "settings", "a: weaker, b: known")),
        ],
    );
    assert_eq!(
        shown(web(&rendered)),
        "a: holes a\nb: plain\nvalues {\"a\": \"weaker\"}\ntext of all for a: Secret s, always false\nalways true\n"
    );
}

#[test]
fn whether_anything_is_filled_in_may_be_open_as_well() {
    // Flux leaves `$${x}` as it is where the unit above has no variable at all.
    let optional = "{substituteFrom: [{kind: Secret, name: s, optional: true}]}";
    let files = [("apps/web/a.yaml", &*config("default", "a", "k: '${a}'"))];
    let target = Target::new("c".parse().unwrap());
    let rendered = defined_with(optional, &unit("web", "{substitute: {a: '$${x}'}}"), &files, &target);
    assert_eq!(shown(web(&rendered)), "a: holes a\ntext of all for a: Secret s optional, always false\nalways true\n");
}

#[test]
fn too_deep_is_held() {
    let mut files = vec![("clusters/c/u0.yaml".to_owned(), unit("u0", SECRET))];
    let last = 10;
    for n in 1..=last {
        let own = format!("{{substitute: {{a: '${{{}}}'}}}}", if n == 1 { "password" } else { "a" });
        files.push((format!("apps/u{}/u.yaml", n - 1), unit(&format!("u{n}"), &own)));
    }
    files.push((format!("apps/u{last}/a.yaml"), config("default", "a", "k: '${a}'")));
    let files: Vec<(&str, &str)> = files.iter().map(|(path, text)| (path.as_str(), text.as_str())).collect();
    let rendered = render(&files);
    let of = |n: usize| rendered.unit(&UnitId::kustomization("flux-system", format!("u{n}")));
    assert!(of(8).unwrap().held().is_none());
    let why = of(9).unwrap().held().unwrap();
    assert!(why.code.as_str() == "TooMany" && why.message.contains("deeper than 8"), "{why}");
}

#[test]
fn a_null_is_no_text() {
    let rendered = defined_with(
        "{substitute: {x: y}}",
        &unit("web", "{substitute: {a: }}"),
        &[("apps/web/a.yaml", &config("default", "a", "k: v"))],
        &Target::new("c".parse().unwrap()),
    );
    let why = web(&rendered).held().unwrap();
    assert!(why.message.contains("spec.postBuild.substitute.a is not text"), "{why}");
}
