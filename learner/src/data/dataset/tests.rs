use super::*;

fn names() -> Vec<String> {
    vec!["no".into(), "yes".into()]
}

#[test]
fn a_batch_holds_the_rows_asked_for_in_the_order_asked() {
    let pair = Tokens { ids: vec![5, 6], segments: vec![0, 1] };
    let sequences = [vec![1, 2, 3].into(), vec![4].into(), pair];
    let dataset = Dataset::tokens(&sequences, vec![0, 1, 0], names()).unwrap();
    let batch = dataset.batch(&[2, 0]);
    let Inputs::Tokens { tokens, lengths } = batch.inputs else { panic!("expected tokens") };
    assert_eq!(tokens, Tokens { ids: vec![5, 6, 1, 2, 3], segments: vec![0, 1, 0, 0, 0] });
    assert_eq!((lengths, batch.targets), (vec![2, 3], Targets::Labels(vec![0, 0])));
    assert_eq!([0, 1, 2].map(|row| dataset.length(row)), [3, 1, 2]);
}

#[test]
fn next_tokens_are_those_behind_the_given_ones_wherever_a_sequence_stands() {
    let sequence = |ids: &[u32], given| Sequence { ids: ids.to_vec(), given };
    let dataset = Dataset::causal(&[sequence(&[1, 7, 8, 9], 2), sequence(&[1, 5], 1)]).unwrap();
    let batch = dataset.batch(&[1, 0]);
    let next = NextTokens { rows: vec![0, 3, 4], ids: vec![5, 8, 9], counts: vec![1, 2] };
    assert_eq!(batch.targets, Targets::Tokens(next));
    assert!(dataset.len() == 2 && dataset.labels().is_empty() && dataset.label_names().is_empty());
    for given in [0, 2] {
        let error = Dataset::causal(&[sequence(&[1, 5], given)]).unwrap_err().to_string();
        assert_eq!(error, "example 0 is empty", "{given} tokens given");
    }
}

#[test]
fn questions_are_put_with_the_whole_prompt_and_only_where_it_is_whole() {
    let sequence = |ids: &[u32]| Sequence { ids: ids.to_vec(), given: 1 };
    let question = |prompt, response: &str| Some(Question { prompt, response: response.into() });
    let dataset = Dataset::causal(&[sequence(&[1, 7, 8, 9]), sequence(&[1, 5])]).unwrap();
    assert_eq!(dataset.question(0), None);
    let asked = dataset.clone().with_questions(vec![question(3, "nine"), None]).unwrap();
    assert_eq!((asked.question(0), asked.question(1)), (Some((&[1, 7, 8][..], "nine")), None));
    for prompt in [0, 2] {
        let error = dataset.clone().with_questions(vec![None, question(prompt, "")]).unwrap_err().to_string();
        assert_eq!(error, "example 1 is empty", "a prompt of {prompt} tokens");
    }
    let error = dataset.with_questions(Vec::new()).unwrap_err().to_string();
    assert_eq!(error, "found 0 questions, expected 2");
}

#[test]
fn images_are_cut_by_their_size() {
    let dataset = Dataset::images(vec![0.0, 1.0, 2.0, 3.0], 2, vec![0, 1], names()).unwrap();
    let Inputs::Images { pixels, count } = dataset.batch(&[1]).inputs else { panic!("expected images") };
    assert_eq!((pixels, count), (vec![2.0, 3.0], 1));
}

#[test]
fn examples_and_labels_that_do_not_fit_are_refused() {
    let refuse = |sequences: &[Vec<u32>], labels| {
        let sequences: Vec<Tokens> = sequences.iter().cloned().map(Tokens::from).collect();
        Dataset::tokens(&sequences, labels, names()).unwrap_err().to_string()
    };
    assert_eq!(refuse(&[vec![1], vec![]], vec![0, 0]), "example 1 is empty");
    assert_eq!(refuse(&[vec![1]], vec![0, 0]), "found 1 sequences, expected 2");
    assert_eq!(refuse(&[vec![1]], vec![2]), "example 0 has label 2, but only 2 are named");
    let error = Dataset::images(vec![0.0; 3], 2, vec![0], names()).unwrap_err();
    assert_eq!(error.to_string(), "found 3 pixels, expected 2");
}
