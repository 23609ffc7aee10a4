/// Moves labels apart so that each has `height` to itself, in the order of their wishes, within `top..bottom`.
///
/// Returns a place for each wish; where there is not room for all, they overlap at the top rather than leave the
/// picture.
pub(super) fn spread(wishes: &[f32], height: f32, top: f32, bottom: f32) -> Vec<f32> {
    let mut order: Vec<usize> = (0..wishes.len()).collect();
    order.sort_by(|&left, &right| wishes[left].total_cmp(&wishes[right]));
    // Labels that touch form a block, which sits where its members on average want to be.
    let mut blocks: Vec<(f32, Vec<usize>)> = Vec::new();
    for index in order {
        let mut block = (wishes[index].clamp(top, bottom), vec![index]);
        while let Some((middle, members)) = blocks.pop() {
            if middle + reach(&members, height) + reach(&block.1, height) <= block.0 {
                blocks.push((middle, members));
                break;
            }
            let members = [members, block.1].concat();
            let wish = members.iter().map(|&member| wishes[member]).sum::<f32>() / members.len() as f32;
            let reach = reach(&members, height) - height / 2.0;
            block = (wish.min(bottom - reach).max(top + reach), members);
        }
        blocks.push(block);
    }
    let mut places = vec![0.0; wishes.len()];
    for (middle, members) in blocks {
        let first = middle - reach(&members, height) + height / 2.0;
        members.iter().enumerate().for_each(|(number, &member)| places[member] = first + height * number as f32);
    }
    places
}

/// From the middle of a block to its end.
fn reach(members: &[usize], height: f32) -> f32 {
    height * members.len() as f32 / 2.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_that_do_not_touch_stay_where_they_are() {
        assert_eq!(spread(&[50.0, 10.0, 90.0], 12.0, 0.0, 100.0), [50.0, 10.0, 90.0]);
    }

    #[test]
    fn equal_wishes_are_spread_around_the_wish() {
        assert_eq!(spread(&[50.0, 50.0, 50.0], 10.0, 0.0, 100.0), [40.0, 50.0, 60.0]);
    }

    #[test]
    fn labels_stay_inside_and_apart_at_the_edges() {
        let mut places = spread(&[99.0, 99.5, 100.0, 82.0, 1.0], 10.0, 0.0, 100.0);
        places.sort_by(f32::total_cmp);
        assert_eq!(places, [1.0, 70.0, 80.0, 90.0, 100.0]);
    }
}
