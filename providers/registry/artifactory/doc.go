// Package artifactory is JFrog's Artifactory, in the way of writing where the
// first segment of a name is the key of an Artifactory repository.
//
//	/artifactory/api/repositories?packageType=docker       list.go   keys
//	/artifactory/api/docker/<key>/v2/_catalog                        images of one key
//
// The interface is the registry's own host and takes the same credential. Tags
// come from the registry. Start reading at [Kind].
package artifactory
