package main

// minimum is the fewest requests, and the bytes of blobs, that bring a
// destination from what before is to what after is, for a tool that keeps
// manifests and knowledge for the run and enumerates the source itself:
//
//	source       catalog pages of 1,000
//	             + 1 tag list for each repository
//	             + 1 HEAD for each tag that is at the destination, 1 GET for each other
//	             + 1 GET for each further distinct manifest that the destination lacks
//	             + 1 GET for each distinct blob that the destination lacks
//	destination  1 tag list for each repository with a tag that was not there
//	             + 1 HEAD for each tag that is there already
//	             + POST and PUT for each distinct blob that it lacks
//	             + 1 POST (mount) for each further repository of a blob
//	             + 1 PUT for each manifest that a repository lacks
//	             + 1 PUT for each further tag that moves
//
// With before empty this is the cold mirror; with both equal, nothing to do. A
// blob that is in a repository already costs nothing here, though a tool that
// starts anew has to ask or remember.
type minimum struct {
	source, destination int
	blobs               int
	bytes               int64
}

func least(before, after *corpus) minimum {
	old, all := take(before), take(after)
	var m minimum
	for digest, size := range all.blobs {
		if _, there := old.blobs[digest]; !there {
			m.blobs++
			m.bytes += size
		}
	}
	newPairs, newManifests, newHeld, moves := 0, 0, 0, 0
	for pair := range all.blobsIn {
		if !old.blobsIn[pair] {
			newPairs++
		}
	}
	for digest := range all.manifests {
		if !old.manifests[digest] {
			newManifests++
		}
	}
	roots := map[[2]string]bool{} // those whose PUT carries a tag
	for pair := range all.manifestsIn {
		if !old.manifestsIn[pair] {
			newHeld++
		}
	}
	heads := 0
	listed := map[string]bool{} // repositories with a new tag
	read := map[string]bool{}   // new manifests that the GET of a tag gives
	for at, digest := range all.tags {
		was, there := old.tags[at]
		if there {
			heads++
		} else {
			listed[at[0]] = true
			if !old.manifests[digest] {
				read[digest] = true
			}
		}
		if was == digest {
			continue
		}
		pair := [2]string{at[0], digest}
		if !old.manifestsIn[pair] && !roots[pair] {
			roots[pair] = true // its first tag comes with the manifest
			continue
		}
		moves++
	}
	repositories := len(after.Repositories)
	m.source = (repositories+999)/1000 + repositories + len(all.tags) + newManifests - len(read) + m.blobs
	m.destination = len(listed) + heads + 2*m.blobs + (newPairs - m.blobs) + newHeld + moves
	return m
}

// stock is a corpus as sets.
type stock struct {
	blobs       map[string]int64     // digest, size
	blobsIn     map[[2]string]bool   // repository, digest
	manifests   map[string]bool      // digest
	manifestsIn map[[2]string]bool   // repository, digest
	tags        map[[2]string]string // repository and tag, digest
}

func take(c *corpus) stock {
	s := stock{map[string]int64{}, map[[2]string]bool{}, map[string]bool{}, map[[2]string]bool{}, map[[2]string]string{}}
	for _, repo := range c.Repositories {
		for _, t := range repo.Tags {
			s.tags[[2]string{repo.Name, t.Name}] = t.Root.digest()
			t.Root.walk(func(m *manifest) {
				s.manifests[m.digest()] = true
				s.manifestsIn[[2]string{repo.Name, m.digest()}] = true
				for _, b := range m.Blobs {
					s.blobs[b.Digest] = b.Size
					s.blobsIn[[2]string{repo.Name, b.Digest}] = true
				}
			})
		}
	}
	return s
}
