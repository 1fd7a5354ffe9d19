package registrytest

const garUploads = "/artifacts-uploads/"
